"""Detections of a whole picture and of crops of it -> those of the picture, each thing once."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from engines.arrays import Flags, Float, Labels, Rows
from engines.boxes import Letterbox
from engines.decode import Detections, Faces, Objects
from engines.nms import Suppression, nms
from engines.spec import Thresholds

BORDER: Final = 3.0  # input pixels from a crop's border, within which a box is taken to be cut by it
HELD: Final = 0.6  # share of a cut box's area inside a box of another view, from which that has the thing


def merge(
    views: Sequence[Detections],
    places: Sequence[Letterbox],
    thresholds: Thresholds,
    suppression: Suppression = "class-aware",
) -> Detections:
    """Put together what was found in a picture and in crops of it.

    A box that a crop's border cuts goes where another view has a larger one of its class over it. Then all go through
    one greedy suppression, in source pixels, also where ``suppression`` is soft: what two views see is one thing, and
    no second one behind it.

    Args:
        views: what was found in each, in source pixels; first the whole picture, whose scene it is.
        places: how each was letterboxed.
        thresholds: with the overlaps from which boxes suppress each other.
        suppression: of objects.
    """
    whole = views[0]
    if len(views) == 1:
        return whole
    size = places[0].source
    objects, faces = [view.objects for view in views], [view.faces for view in views]
    boxes, scores = np.concatenate([each.boxes for each in objects]), np.concatenate([each.scores for each in objects])
    labels = np.concatenate([each.labels for each in objects])
    classes = None if suppression == "class-agnostic" else labels
    rows = _once([each.boxes for each in objects], boxes, scores, classes, places, size, thresholds.object_iou)
    found = Objects(boxes[rows], scores[rows], labels[rows])
    heads, sure = np.concatenate([each.boxes for each in faces]), np.concatenate([each.scores for each in faces])
    rows = _once([each.boxes for each in faces], heads, sure, None, places, size, thresholds.face_iou)
    landmarks = np.concatenate([each.landmarks for each in faces])
    return Detections(found, Faces(heads[rows], sure[rows], landmarks[rows]), whole.scene)


def _once(
    by_view: Sequence[Float],
    boxes: Float,
    scores: Float,
    labels: Labels | None,
    places: Sequence[Letterbox],
    size: tuple[int, int],
    iou: float,
) -> Rows:
    """The rows of all views' boxes that are kept, best first."""
    if sum(map(bool, map(len, by_view))) < 2:
        return (-scores).argsort(kind="stable")
    cut = np.concatenate([cut_boxes(own, place, size) for own, place in zip(by_view, places, strict=True)])
    rows = np.arange(len(boxes))
    if cut.any():
        view = np.arange(len(by_view)).repeat([len(own) for own in by_view])
        rows = rows[~_had_elsewhere(boxes, cut, view, labels)]
    kept = nms(boxes[rows], scores[rows], iou, None if labels is None else labels[rows])
    return rows[kept]


def cut_boxes(boxes: Float, place: Letterbox, size: tuple[int, int]) -> Flags:
    """Which boxes (N, 4) xyxy of a view reach its border where the picture, of ``size`` (width, height), goes on."""
    (left, top), (width, height) = place.origin, place.source
    near_x, near_y = (BORDER * side / scaled for side, scaled in zip(place.source, place.scaled, strict=True))
    x0, y0, x1, y1 = boxes.T
    cut: Flags = np.zeros(len(boxes), np.bool_)
    if left > 0:
        cut |= x0 < left + near_x
    if top > 0:
        cut |= y0 < top + near_y
    if left + width < size[0]:
        cut |= x1 > left + width - near_x
    if top + height < size[1]:
        cut |= y1 > top + height - near_y
    return cut


def _had_elsewhere(boxes: Float, cut: Flags, view: Rows, labels: Labels | None) -> Flags:
    """Which boxes (N,) are cut, and inside a larger one that another view has of their class."""
    (rows,) = cut.nonzero()
    x0, y0, x1, y1 = boxes.astype(np.float64).T
    areas = (x1 - x0) * (y1 - y0)
    width = np.minimum(x1[rows, None], x1) - np.maximum(x0[rows, None], x0)
    height = np.minimum(y1[rows, None], y1) - np.maximum(y0[rows, None], y0)
    inside = np.maximum(width, 0.0) * np.maximum(height, 0.0) >= HELD * areas[rows, None]
    has = inside & (view[rows, None] != view) & (areas[rows, None] < areas)
    if labels is not None:
        has &= labels[rows, None] == labels
    gone: Flags = np.zeros(len(boxes), np.bool_)
    gone[rows[has.any(axis=1)]] = True
    return gone
