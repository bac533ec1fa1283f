"""What a detector's ONNX file takes and gives, found by the shapes of its inputs and outputs.

The layouts are those that the projects' own exporters write:

========== ============================================ =====================================================
layout     outputs                                      boxes
========== ============================================ =====================================================
yolox      (1, cells, 5 + C)                            centre and size; in pixels, or of the cells
yolov5     (1, 3 cells, 5 + C)                          centre and size in pixels
yolov8     (1, 4 + C, cells)                            centre and size in pixels
end2end    (1, K, 6): box, score, class                 corners in pixels
detr       (1, Q, C) and (1, Q, 4), or (1, Q, 4 + C)    centre and size as shares of the input
rtdetr     labels, boxes, scores; takes the size, too   corners in the picture's pixels
nanodet    (1, cells, C + 4 (R + 1))                    distributions of the distances to the sides
========== ============================================ =====================================================
"""

import ast
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from engines.data.names import COCO_NAMES
from engines.errors import ModelError

LayoutName = Literal["yolox", "yolov5", "yolov8", "end2end", "detr", "rtdetr", "nanodet"]
Placement = Literal["corner", "centre", "stretch"]  # how a picture is fitted into the input
LAYOUTS: tuple[LayoutName, ...] = get_args(LayoutName)
STRIDES: Final = (8, 16, 32, 64)  # of the cells; most have the first three
ANCHORS: Final = 3  # boxes of a cell in yolov5
BINS: Final = 8  # of each distance's distribution in nanodet
END2END_COLUMNS: Final = 6  # box, score, class
MANY_QUERIES: Final = 1000  # a transformer has fewer boxes than this, whatever its input

Shape = tuple[int | None, ...]  # None: dynamic


@dataclass(frozen=True, slots=True)
class DetectorLayout:
    """How pictures go in and boxes come out.

    Args:
        name: which of the layouts it is.
        placement: how a picture is fitted into the input.
        bgr: whether blue comes first.
        mean: subtracted from each channel, in the order of the input, grey levels 0-255.
        scale: by which each channel is divided after that.
    """

    name: LayoutName
    placement: Placement
    bgr: bool = False
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (255.0, 255.0, 255.0)


OF_NAME: Final[Mapping[LayoutName, DetectorLayout]] = {
    "yolox": DetectorLayout("yolox", "corner", bgr=True, scale=(1.0, 1.0, 1.0)),
    "yolov5": DetectorLayout("yolov5", "centre"),
    "yolov8": DetectorLayout("yolov8", "centre"),
    "end2end": DetectorLayout("end2end", "centre"),
    "detr": DetectorLayout("detr", "stretch"),
    "rtdetr": DetectorLayout("rtdetr", "stretch"),
    "nanodet": DetectorLayout(
        "nanodet", "stretch", bgr=True, mean=(103.53, 116.28, 123.675), scale=(57.375, 57.12, 58.395)
    ),
}  # as the projects' own demos prepare pictures


def cells(size: tuple[int, int], levels: int = 3) -> int:
    """Return how many cells the first ``levels`` strides have in an input of ``size`` (width, height) pixels.

    >>> cells((640, 640)), cells((416, 416)), cells((320, 320), 4)
    (8400, 3549, 2125)
    """
    return sum(math.ceil(size[0] / stride) * math.ceil(size[1] / stride) for stride in STRIDES[:levels])


def find_layout(
    inputs: Sequence[str], outputs: Mapping[str, Shape], size: tuple[int, int], classes: int | None, head: str = ""
) -> LayoutName:
    """Return the layout that the shapes are of.

    Args:
        inputs: names of the file's inputs.
        outputs: shape of each output, as a run gave it.
        size: width and height of the input, pixels.
        classes: how many the detector tells apart, where that is known.
        head: what the file's metadata call the head, where they do.

    Raises:
        ModelError: they are of none, or of more than one.
    """
    if len(inputs) > 1:
        return _only(["rtdetr"] if {"labels", "boxes", "scores"} <= set(outputs) else [], outputs)
    shapes = [shape for shape in outputs.values() if len(shape) == 3 and shape[0] in (1, None)]
    if len(shapes) == 2 and any(shape[2] == 4 for shape in shapes):
        return "detr"
    if not shapes:
        return _only([], outputs)
    _, rows, columns = shapes[0]
    if columns == END2END_COLUMNS and (rows or 0) < cells(size):
        return "detr" if "RTDETR" in head else "end2end"
    found: list[LayoutName] = []
    for count in (classes,) if classes is not None else (len(COCO_NAMES), None):
        found = found or [name for name in LAYOUTS if _fits(name, rows, columns, size, count)]
    return _only(found, outputs)


def _fits(name: LayoutName, rows: int | None, columns: int | None, size: tuple[int, int], classes: int | None) -> bool:
    if rows is None or columns is None:
        return False

    def telling(extra: int, length: int) -> bool:
        return length > extra if classes is None else length == extra + classes

    match name:
        case "yolox":
            return rows == cells(size) and telling(5, columns)
        case "yolov5":
            return rows == ANCHORS * cells(size) and telling(5, columns)
        case "yolov8":
            return columns == cells(size) and telling(4, rows)
        case "detr":
            return rows < min(MANY_QUERIES, cells(size)) and columns != cells(size) and telling(4, columns)
        case "nanodet":
            # Of an unknown number of classes, three levels are taken for the more frequent YOLOX.
            three = classes is not None and rows == cells(size)
            return (three or rows == cells(size, 4)) and telling(4 * BINS, columns)
        case _:
            return False


def _only(found: Sequence[LayoutName], outputs: Mapping[str, Shape]) -> LayoutName:
    if len(found) == 1:
        return found[0]
    shown = ", ".join(f"{name} {list(shape)}" for name, shape in outputs.items())
    what = f"may be of {' or '.join(found)}" if found else "are of no layout that is known"
    raise ModelError(f"the detector's outputs ({shown}) {what}; say which with --layout, one of {', '.join(LAYOUTS)}")


def names_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the class names that a file's metadata list under ``names``, by number; () where they do not.

    >>> names_in({"names": "{0: 'person', 1: 'bicycle'}"})
    ('person', 'bicycle')
    """
    try:
        listed = ast.literal_eval(metadata.get("names", "()"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    if isinstance(listed, dict) and sorted(listed) == list(range(len(listed))):
        listed = [listed[number] for number in range(len(listed))]
    return tuple(str(name) for name in listed) if isinstance(listed, (list, tuple)) else ()
