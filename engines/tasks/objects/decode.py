"""Outputs of the objects' head -> objects in source pixels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import numpy as np

from engines.arrays import Array, Float, Labels, Rows
from engines.boxes import Letterboxes
from engines.nms import Suppression, nms, soft_nms
from engines.rows import TOP, in_pictures, likely
from engines.scores import Wanted, calibrated, wanted_objects
from engines.spec import Thresholds

MAX_ROWS: Final = TOP  # of a picture that the frame entry gives


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of one frame, best first."""

    boxes: Float  # (N, 4) xyxy, source pixels, inside the picture
    scores: Float  # (N,) in [0, 1]
    labels: Labels  # (N,) index into ModelSpec.objects


NO_OBJECTS = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))


def decode(
    outputs: Mapping[str, Array],
    places: Letterboxes,
    thresholds: Thresholds,
    suppression: Suppression,
) -> Iterable[Objects]:
    """The objects of each picture; see :func:`engines.decode.decode`."""
    wanted = wanted_objects(thresholds)
    rows, pictures, scores = likely(outputs["object_scores"], wanted.least)
    labels = outputs["object_labels"].reshape(-1).take(rows).astype(np.int32, copy=False)
    if wanted.by_label is not None:
        scores = calibrated(thresholds.object_curves, scores, labels)
        (good,) = (scores >= wanted.by_label[labels]).nonzero()
        rows, pictures, scores, labels = rows[good], pictures[good], scores[good], labels[good]
    if not len(rows):
        return repeat(NO_OBJECTS)
    boxes = outputs["object_boxes"].reshape(-1, 4).take(rows, 0).astype(np.float32, copy=False)
    if suppression == "soft":
        kept, scores = _faded(boxes, scores, labels, pictures, wanted)
    else:
        classes = None if suppression == "class-agnostic" else labels
        kept = nms(boxes, scores, thresholds.object_iou, classes, pictures if places.count > 1 else None)
    mapped, kept, parts = in_pictures(boxes, kept, pictures, places)
    scores, labels = scores.take(kept), labels.take(kept)
    return (Objects(mapped[part], scores[part], labels[part]) for part in parts)


def _faded(boxes: Float, scores: Float, labels: Labels, pictures: Rows, wanted: Wanted) -> tuple[Rows, Float]:
    """Soft suppression within each picture: the rows that are left, and all scores after it."""
    faded, left = scores.copy(), []
    least = wanted.least if wanted.by_label is None else float(wanted.by_label.min())
    for own in np.split(np.arange(len(pictures)), np.flatnonzero(np.diff(pictures)) + 1):
        kept, remains = soft_nms(boxes[own], scores[own], least, labels[own])
        left.append(own[kept])
        faded[left[-1]] = remains
    rows = np.concatenate(left)
    return rows if wanted.by_label is None else rows[faded[rows] >= wanted.by_label[labels[rows]]], faded
