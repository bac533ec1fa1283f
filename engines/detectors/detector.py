"""A detector that runs: pictures in, boxes with names out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from engines.arrays import Float, Pixels, Rows
from engines.data.names import COCO_NAMES
from engines.detectors.decoding import Candidates, decode_outputs
from engines.detectors.layout import OF_NAME, DetectorLayout, LayoutName, find_layout, names_in
from engines.errors import ModelError, one_line
from engines.nms import nms
from engines.pictures import PADDING_GREY

DEFAULT_SIDE = 640  # of an input that the file leaves open, pixels
TRANSFORMERS = ("detr", "rtdetr", "end2end")  # they suppress doubles themselves


@dataclass(frozen=True, slots=True)
class Found:
    """What a detector found in a picture, best first."""

    boxes: Float  # (N, 4) xyxy, source pixels
    scores: Float  # (N,)
    labels: Rows  # (N,) numbers of the detector's names


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A picture in the input."""

    pixels: Pixels
    scale: Float  # (2,) input pixels of a source pixel, x and y
    shift: Float  # (2,)


class ObjectDetector:
    """An ONNX detector in ONNX Runtime.

    Args:
        session: of the file, with the inputs that its layout has.
        layout: how pictures go in and boxes come out.
        size: width and height of the input, pixels.
        names: of the classes.
    """

    def __init__(self, session: Any, layout: DetectorLayout, size: tuple[int, int], names: Sequence[str]) -> None:
        self.layout, self.size, self.names = layout, size, tuple(names)
        self.session = session
        self._inputs = [each.name for each in session.get_inputs()]
        self._outputs = [each.name for each in session.get_outputs()]

    @property
    def suppresses(self) -> bool:
        """Whether it leaves no doubles."""
        return self.layout.name in TRANSFORMERS

    def detect(self, picture: Pixels, score: float = 0.3, iou: float = 0.65, limit: int = 100) -> Found:
        """Return what is found in a picture (H, W, 3) RGB with at least ``score``.

        Args:
            picture: RGB.
            score: the least one, in [0, 1].
            iou: a box goes when a better one of its class overlaps it more than this; transformers need none.
            limit: of boxes, the best.
        """
        fitted = _fit(picture, self.size, self.layout.placement)
        found = self.candidates(fitted.pixels, (picture.shape[1], picture.shape[0]))
        rows, labels = np.nonzero(found.scores >= score)
        scores = found.scores[rows, labels]
        boxes = found.boxes[rows]
        if self.layout.name != "rtdetr":
            boxes = np.asarray((boxes - np.tile(fitted.shift, 2)) / np.tile(fitted.scale, 2), np.float32)
        height, width = picture.shape[:2]
        boxes = np.asarray(np.clip(boxes, 0, [width, height, width, height]), np.float32)
        best = labels == found.scores[rows].argmax(1)  # one class a box
        boxes, scores, labels = boxes[best], scores[best], labels[best]
        order = nms(boxes, scores, 1.0 if self.suppresses else iou, labels)[:limit]
        return Found(boxes[order], np.asarray(scores[order], np.float32), labels[order])

    def candidates(self, pixels: Pixels, source: tuple[int, int]) -> Candidates:
        """Return all boxes and scores of an input (height, width, 3) RGB whose picture has ``source`` pixels."""
        outputs = dict(zip(self._outputs, self.outputs(pixels, source), strict=True))
        return decode_outputs(self.layout.name, outputs, self.size, len(self.names))

    def outputs(self, pixels: Pixels, source: tuple[int, int]) -> list[Float]:
        """Return what the file itself gives for such an input."""
        layout = self.layout
        ordered = pixels[..., ::-1] if layout.bgr else pixels
        planes = (ordered.astype(np.float32) - np.array(layout.mean, np.float32)) / np.array(layout.scale, np.float32)
        feeds = {self._inputs[0]: np.ascontiguousarray(planes.transpose(2, 0, 1)[None])}
        if layout.name == "rtdetr":
            feeds[self._inputs[1]] = np.array([source], np.int64)
        return list(self.session.run(None, feeds))


def open_detector(
    file: Path,
    *,
    layout: LayoutName | None = None,
    names: Sequence[str] = (),
    bgr: bool | None = None,
    size: tuple[int, int] | None = None,
    threads: int = 0,
) -> ObjectDetector:
    """Open a detector's ONNX file.

    Args:
        file: the file.
        layout: what it takes and gives; None: found by its shapes.
        names: of its classes; (): those of its metadata, else COCO's 80 if it tells so many apart.
        bgr: whether it takes blue first; None: as its project's own files do.
        size: width and height of its input where the file leaves them open, pixels.
        threads: of ONNX Runtime; 0: as many as it likes.

    Raises:
        ModelError: the file cannot be opened, or its layout or classes are not known.
    """
    session = open_session(str(file), file, threads)
    metadata = session.get_modelmeta().custom_metadata_map
    names = tuple(names) or names_in(metadata)
    size = _input_size(session, size, file)
    shapes = output_shapes(session, size, file)
    inputs = [each.name for each in session.get_inputs()]
    name = layout or find_layout(inputs, shapes, size, len(names) or None, metadata.get("head", ""))
    known = OF_NAME[name] if bgr is None else replace(OF_NAME[name], bgr=bgr)
    detector = ObjectDetector(session, known, size, names or COCO_NAMES)
    if not names:
        _check_count(detector, shapes, file)
    return detector


def open_session(graph: str | bytes, file: Path, threads: int) -> Any:
    """Open an ONNX file, or the content of one that was made of ``file``, in ONNX Runtime.

    Raises:
        ModelError: it cannot be opened.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises classes of its own for each kind of damage
        raise ModelError(f"detector {file}: cannot be opened: {one_line(error)}") from error


def _input_size(session: Any, wanted: tuple[int, int] | None, file: Path) -> tuple[int, int]:
    shape = session.get_inputs()[0].shape
    if len(shape) != 4 or shape[1] != 3:
        raise ModelError(f"detector {file}: its input must be (N, 3, height, width), got {list(shape)}")
    width, height = wanted or (DEFAULT_SIDE, DEFAULT_SIDE)
    return shape[3] if isinstance(shape[3], int) else width, shape[2] if isinstance(shape[2], int) else height


def output_shapes(session: Any, size: tuple[int, int], file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes that a run on a grey picture gives; ModelError where it cannot run."""
    inputs = session.get_inputs()
    feeds = {inputs[0].name: np.full((1, 3, size[1], size[0]), 0.5, np.float32)}
    feeds |= {each.name: np.array([size], np.int64) for each in inputs[1:]}
    try:
        values = session.run(None, feeds)
    except Exception as error:  # as above
        raise ModelError(f"detector {file}: cannot run on {size[0]}x{size[1]} pixels: {one_line(error)}") from error
    return {each.name: value.shape for each, value in zip(session.get_outputs(), values, strict=True)}


def _check_count(detector: ObjectDetector, shapes: dict[str, tuple[int, ...]], file: Path) -> None:
    """Refuse a detector without names that does not tell COCO's 80 classes apart."""
    extra = {"yolox": 5, "yolov5": 5, "yolov8": 4, "nanodet": 32}.get(detector.layout.name)
    if extra is None:
        return  # its shapes do not say how many
    shape = next(iter(shapes.values()))
    count = shape[1 if detector.layout.name == "yolov8" else 2] - extra
    if count != len(COCO_NAMES):
        raise ModelError(f"detector {file}: tells {count} classes apart; say what they are called with --names")


def _fit(picture: Pixels, size: tuple[int, int], placement: str) -> _Fitted:
    """Fit a picture into the input: stretched, or letterboxed at its upper left corner or in its middle."""
    height, width = picture.shape[:2]
    if placement == "stretch":
        scale = np.array([size[0] / width, size[1] / height], np.float32)
        return _Fitted(cv2.resize(picture, size), scale, np.zeros(2, np.float32))  # type: ignore[arg-type]  # uint8
    ratio = min(size[0] / width, size[1] / height)
    fitted = max(1, round(width * ratio)), max(1, round(height * ratio))
    shift = (0, 0) if placement == "corner" else ((size[0] - fitted[0]) // 2, (size[1] - fitted[1]) // 2)
    canvas = np.full((size[1], size[0], 3), PADDING_GREY, np.uint8)
    canvas[shift[1] : shift[1] + fitted[1], shift[0] : shift[0] + fitted[0]] = cv2.resize(picture, fitted)
    return _Fitted(canvas, np.full(2, ratio, np.float32), np.array(shift, np.float32))
