"""The outputs of each layout -> boxes and class scores. NumPy alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from engines.arrays import Float
from engines.detectors.layout import BINS, STRIDES, LayoutName, cells

SMALL = 1.5  # of the number of cells along the longer side: centres in pixels go far beyond it


@dataclass(frozen=True, slots=True)
class Candidates:
    """Boxes before suppression."""

    boxes: Float  # (N, 4) xyxy, input pixels; of ``rtdetr`` source pixels
    scores: Float  # (N, C)


def decode_outputs(name: LayoutName, outputs: Mapping[str, Float], size: tuple[int, int], classes: int) -> Candidates:
    """Return the boxes and scores of one picture.

    Args:
        name: the layout.
        outputs: what the detector gave, by name, with a batch of one.
        size: width and height of the input, pixels.
        classes: C.
    """
    if name == "rtdetr":
        labels, boxes, scores = (outputs[key][0] for key in ("labels", "boxes", "scores"))
        return Candidates(_float(boxes), _one_hot(labels, scores, classes))
    if name == "detr":
        return _detr([value[0] for value in outputs.values()], size, classes)
    first = _float(next(iter(outputs.values()))[0])
    match name:
        case "yolox":
            return Candidates(_corners(_of_cells(first[:, :4], size)), first[:, 4:5] * first[:, 5:])
        case "yolov5":
            return Candidates(_corners(first[:, :4]), first[:, 4:5] * first[:, 5:])
        case "yolov8":
            return Candidates(_corners(first[:4].T), first[4:].T)
        case "end2end":
            return Candidates(first[:, :4], _one_hot(first[:, 5], first[:, 4], classes))
        case "nanodet":
            return Candidates(_from_distributions(first[:, classes:], size), first[:, :classes])


def _float(values: object) -> Float:
    return np.asarray(values, np.float32)


def _corners(boxes: Float) -> Float:
    """Centre and size (N, 4) -> corners."""
    return np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)


def _one_hot(labels: object, scores: object, classes: int) -> Float:
    """Labels (N,) and scores (N,) -> scores (N, C); labels beyond C have none."""
    numbers, values = np.asarray(labels).astype(np.int64), _float(scores)
    spread = np.zeros((len(values), classes), np.float32)
    known = (numbers >= 0) & (numbers < classes)
    spread[np.flatnonzero(known), numbers[known]] = values[known]
    return spread


def cell_corners(size: tuple[int, int], levels: int) -> tuple[Float, Float]:
    """Return the upper left corners (N, 2) of all cells, in cells, and their strides (N, 1).

    Args:
        size: width and height of the input, pixels.
        levels: how many of the strides it has.
    """
    grids, strides = [], []
    for stride in STRIDES[:levels]:
        across, down = (np.arange(-(-side // stride), dtype=np.float32) for side in size)
        grid = np.stack(np.meshgrid(across, down), -1).reshape(-1, 2)
        grids.append(grid)
        strides.append(np.full((len(grid), 1), stride, np.float32))
    return np.concatenate(grids), np.concatenate(strides)


def _of_cells(boxes: Float, size: tuple[int, int]) -> Float:
    """YOLOX's boxes in pixels, whether the file decodes them itself or not (Ge et al. 2021)."""
    if np.abs(boxes[:, :2]).max(initial=0.0) > SMALL * max(size) / STRIDES[0]:
        return boxes
    corner, stride = cell_corners(size, 3)
    return np.concatenate([(boxes[:, :2] + corner) * stride, np.exp(boxes[:, 2:]) * stride], 1)


def _from_distributions(logits: Float, size: tuple[int, int]) -> Float:
    """Boxes from distributions over the distance to each side (generalised focal loss, Li et al. 2020)."""
    levels = 4 if len(logits) == cells(size, 4) else 3
    corner, stride = cell_corners(size, levels)
    # With four levels the points are the cells' corners, with three their middles.
    centre = (corner if levels == 4 else corner + 0.5) * stride
    spread = logits.reshape(len(logits), 4, BINS)
    weights = np.exp(spread - spread.max(-1, keepdims=True))
    reach = (weights / weights.sum(-1, keepdims=True)) @ np.arange(BINS, dtype=np.float32) * stride
    return np.concatenate([centre - reach[:, :2], centre + reach[:, 2:]], 1)


def _detr(outputs: list[Float], size: tuple[int, int], classes: int) -> Candidates:
    """Boxes as shares of the input: beside logits, or in front of scores, or of a score and a class."""
    scale = np.array([*size, *size], np.float32)
    if len(outputs) > 1:
        boxes = next(each for each in outputs if each.shape[1] == 4)
        logits = next(each for each in outputs if each is not boxes)
        scores = _float(1.0 / (1.0 + np.exp(-_float(logits))))
        return Candidates(_corners(_float(boxes) * scale), scores[:, :classes])
    rows = _float(outputs[0])
    boxes = _corners(rows[:, :4] * scale)
    if rows.shape[1] == 4 + classes:
        return Candidates(boxes, rows[:, 4:])
    return Candidates(boxes, _one_hot(rows[:, 5], rows[:, 4], classes))
