"""Non-maximum suppression: greedy within a class or across classes, and soft."""

from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from engines.arrays import ClassIds, Double, Float, Rows

Suppression = Literal["class-aware", "class-agnostic", "soft"]

FAR: Final = 1e18  # pixels from the origin; beyond it areas would not be finite in float32
SIGMA: Final = 0.5  # of Gaussian soft suppression, as in the paper

# An ONNX model of one NonMaxSuppression node, operator set 11: boxes (B, N, 4), scores (B, C, N) and iou (1,) give kept
# (K, 3): picture, class and row; scores below -3e38 do not count. It is a file since making it takes the package
# onnx, which only training needs.
MODEL: Final = Path(__file__).with_name("nms.onnx")


def nms(boxes: Float, scores: Float, iou: float, labels: ClassIds | None = None, pictures: Rows | None = None) -> Rows:
    """Greedy non-maximum suppression.

    Args:
        boxes: (N, 4) xyxy float32. Boxes that have no area, or reach beyond 1e18 from the origin, are never kept.
        scores: (N,) float32; of equal ones the earlier row wins, and what is not finite is never kept.
        iou: a box goes when its overlap with a better kept one is larger than this, in [0, 1].
        labels: (N,) classes from 0; boxes of different classes never suppress each other. None: one class.
        pictures: (N,) numbers from 0, ascending; nor do those of different pictures. None: one picture.

    Returns:
        Rows that are kept, picture by picture and best first.
    """
    ranked, count = _ranked(boxes, scores), len(scores)
    # One row of scores for each class that is there: no offsets that would cost float32 digits. Rows as long as the
    # boxes of one picture: of a batch, what another picture has is not looked at.
    classes, height, width = np.zeros(count, np.int64), 1, count
    if labels is not None and count:
        present = np.minimum(np.bincount(labels), 1).cumsum()
        classes, height = present.take(labels) - 1, int(present[-1])  # among those that are there
    places, starts = np.arange(count), np.zeros(1, np.int64)
    if pictures is not None and count:
        counts = np.bincount(pictures)
        starts, width = counts.cumsum() - counts, int(counts.max())
        classes += pictures * height
        places -= starts.take(pictures)
        # What stands behind a picture's own boxes has no score.
        boxes = boxes.take(np.minimum(starts[:, None] + np.arange(width), count - 1), 0)
    wanted = np.empty((len(starts), height, width), np.float32)
    wanted.fill(-np.inf)
    wanted.reshape(-1)[classes * width + places] = ranked
    feeds = {"boxes": boxes.reshape(len(starts), width, 4), "scores": wanted, "iou": np.array([iou], np.float32)}
    kept = _suppressor().run(None, feeds)[0]
    if len(starts) * height == 1:
        return np.asarray(kept[:, 2], np.int64)
    rows = starts.take(kept[:, 0]) + kept[:, 2]  # it answers class by class
    rows.sort()
    keys = (-scores.take(rows),) if pictures is None else (-scores.take(rows), pictures.take(rows))
    return np.asarray(rows.take(np.lexsort(keys)), np.int64)


@cache
def _suppressor() -> Any:
    """Return the session of ``MODEL``; any thread may run it."""
    # It takes a quarter of the time of cv2.dnn.NMSBoxes, where making the lists costs more than their work.
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])


def soft_nms(boxes: Float, scores: Float, least: float, labels: ClassIds | None = None) -> tuple[Rows, Float]:
    """Soft non-maximum suppression (Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", 2017).

    The best box is taken, the scores of those that overlap it fade, and so on with the best of what is left. A box that
    is better than all that overlap it is taken in the same turn as others of that kind, which gives the same: only
    boxes that overlap change each other's scores.

    Args:
        boxes: (N, 4) xyxy. Boxes that have no area or are not finite are never taken.
        scores: (N,) at least 0; of equal ones the earlier row goes first, and what is not finite is never taken.
        least: boxes whose score fades below this are given up.
        labels: (N,) classes from 0; boxes of different classes do not change each other. None: one class.

    Returns:
        Rows that are left, best first, and the scores they are left with.
    """
    ranked = _ranked(boxes, scores)
    rows = np.argsort(-ranked, kind="stable")[: np.count_nonzero(ranked > -np.inf)]
    left = scores[rows].astype(np.float64)
    first, second, overlaps = _pairs(boxes[rows].astype(np.float64), None if labels is None else labels[rows])
    factors = np.exp(-(overlaps**2) / SIGMA)
    waiting = left >= least
    while True:
        open_ = waiting[first] & waiting[second]
        first, second, factors = first[open_], second[open_], factors[open_]
        if not len(first):
            break
        ahead = left[first] >= left[second]  # of equal scores the earlier row, which is the first
        better, worse = np.where(ahead, first, second), np.where(ahead, second, first)
        taken = waiting.copy()
        taken[worse] = False
        fading = taken[better]
        np.multiply.at(left, worse[fading], factors[fading])
        waiting &= ~taken & (left >= least)
    order = np.argsort(-left, kind="stable")
    order = order[left[order] >= least]
    return rows[order], left[order].astype(np.float32)


def _ranked(boxes: Float, scores: Float) -> Float:
    """The scores (N,), -inf for what cannot be kept."""
    corners = np.asarray(boxes.T, order="C")  # loops over long rows
    filled = corners[:2] < corners[2:]  # False, too, for what is not a number
    if len(scores) and np.count_nonzero(filled) == filled.size:  # the common case, in a third of the calls
        least, most = np.minimum.reduce(boxes, axis=None), np.maximum.reduce(boxes, axis=None)
        if least > -FAR and most < FAR and np.maximum.reduce(scores) < np.inf:
            return scores
    x0, y0, x1, y1 = corners
    sound = (x0 < x1) & (y0 < y1) & (x0 > -FAR) & (y0 > -FAR) & (x1 < FAR) & (y1 < FAR) & np.isfinite(scores)
    return np.where(sound, scores, np.float32(-np.inf))


def _pairs(boxes: Double, labels: ClassIds | None) -> tuple[Rows, Rows, Double]:
    """All pairs of rows (P,), (P,), the lesser first, whose boxes (N, 4) of one class overlap, and their IoU (P,)."""
    order = np.argsort(boxes[:, 0])
    reach = np.searchsorted(boxes[order, 0], boxes[order, 2])  # along x, how many begin before each ends
    counts = reach - np.arange(len(order)) - 1
    near = np.repeat(np.arange(len(order)), counts)
    far = np.arange(len(near)) - np.repeat(np.cumsum(counts) - counts, counts) + near + 1
    near, far = order[near], order[far]
    a, b = boxes[near], boxes[far]
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    touching = (sides > 0.0).all(axis=1)
    if labels is not None:
        touching &= labels[near] == labels[far]
    common = sides.prod(axis=1)[touching]
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    near, far = near[touching], far[touching]
    return np.minimum(near, far), np.maximum(near, far), common / (areas[near] + areas[far] - common)
