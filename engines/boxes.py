"""Box arithmetic and the letterbox.

Coordinates are continuous: a picture of width W spans x from 0 to W, and its first pixel spans 0 to 1.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engines.arrays import Double, Float, Rows

MIN_SCALED = 2  # one chroma sample of 4:2:0
PAIRS = 5  # of coordinates in a row at the most: the landmarks of a face


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a source picture, or a crop of one, sits in the network's input.

    All in pixels; scaled size and padding are even (4:2:0).
    """

    source: tuple[int, int]  # width, height of the picture, or of the crop
    target: tuple[int, int]  # width, height
    scaled: tuple[int, int]  # width, height of the picture inside the target
    pad: tuple[int, int]  # left, top
    origin: tuple[int, int] = (0, 0)  # left, top of the crop in the picture that source pixels are of

    def to_input(self, points: Float) -> Float:
        """Map xy pairs (..., 2k) from source pixels to input pixels."""
        scale, pad = _per_axis(self)
        return (_pairs(points) * scale + pad).reshape(points.shape).astype(np.float32)


@lru_cache(maxsize=64)  # a stream's letterbox is the same for every frame
def _per_axis(box: Letterbox) -> tuple[Double, Double]:
    """Scale of x and y, and where the picture's own corner would lie in the input: the padding, of whole pictures."""
    # One factor per axis: the scaled size is rounded to even numbers, so the two differ a little.
    scale = np.asarray(box.scaled, np.float64) / np.asarray(box.source, np.float64)
    return scale, np.asarray(box.pad, np.float64) - scale * np.asarray(box.origin, np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Letterboxes:
    """How the pictures of a batch sit in the network's input; one row for all of them where they sit alike."""

    count: int  # pictures
    scales: Double  # (B or 1, 2 * PAIRS) of x and y, over and over
    pads: Double  # (B or 1, 2 * PAIRS) left, top, over and over
    least: Float  # (B or 1, 4) the smallest corners in each source picture, or crop of it
    limits: Float  # (B or 1, 4) the largest

    @staticmethod
    @lru_cache(maxsize=64)
    def of(boxes: tuple[Letterbox, ...]) -> "Letterboxes":
        """Of pictures that were letterboxed like this, one or more."""
        rows = boxes[:1] if len(set(boxes)) == 1 else boxes
        scales, pads = (np.tile(np.stack(each), PAIRS) for each in zip(*map(_per_axis, rows), strict=True))
        least = np.array([box.origin * 2 for box in rows], np.float32)
        return Letterboxes(
            len(boxes), scales, pads, least, least + np.array([box.source * 2 for box in rows], np.float32)
        )

    def to_source(self, points: Float, pictures: Rows) -> Float:
        """Map xy pairs (N, ..., 2k), each row of the picture that ``pictures`` (N,) says, to source pixels.

        A row has PAIRS pairs at the most.
        """
        width = math.prod(points.shape[1:])
        scales, pads = self.scales[:, :width], self.pads[:, :width]
        if not self.alike:
            scales, pads = scales[pictures], pads[pictures]
        # Rows as they lie: a loop over pairs costs several times as much.
        return ((points.reshape(len(points), width) - pads) / scales).astype(np.float32).reshape(points.shape)

    def clip(self, boxes: Float, pictures: Rows) -> Float:
        """Move the corners of xyxy boxes (N, 4), in source pixels, into their pictures; a box outside is empty."""
        least, limits = self.least, self.limits
        if not self.alike:
            least, limits = least[pictures], limits[pictures]
        return np.asarray(np.minimum(np.maximum(boxes, least), limits), np.float32)

    @property
    def alike(self) -> bool:
        """Whether one row says it of all pictures."""
        return len(self.limits) == 1


def letterbox(source: tuple[int, int], target: tuple[int, int], origin: tuple[int, int] = (0, 0)) -> Letterbox:
    """Fit ``source`` (width, height) into ``target`` keeping its shape, centred, scaled up or down.

    ``origin`` (left, top) says where a crop begins in its picture.

    Scaled size and padding are even, so the shape is kept to within one pixel; a picture so thin that its short
    side would vanish keeps 2 pixels there.

    Raises:
        ValueError: ``source`` has no pixels, or ``target`` is smaller than 2x2.
    """
    if min(source) < 1:
        raise ValueError(f"source must be at least 1x1, got {source[0]}x{source[1]}")
    if min(target) < MIN_SCALED:
        raise ValueError(f"target must be at least {MIN_SCALED}x{MIN_SCALED}, got {target[0]}x{target[1]}")
    scale = min(target[0] / source[0], target[1] / source[1])
    width, height = (_even(side * scale, limit) for side, limit in zip(source, target, strict=True))
    pad = (_even_below((target[0] - width) // 2), _even_below((target[1] - height) // 2))
    return Letterbox(source, target, (width, height), pad, origin)


def iou_matrix(a: Float, b: Float) -> Float:
    """Intersection over union of every box of ``a`` (N, 4) with every box of ``b`` (M, 4), xyxy -> (N, M) in [0, 1].

    An empty box (no width or no height, or not a number) overlaps nothing, not even itself.

    >>> iou_matrix(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2], [5, 5, 6, 6]], np.float32)).round(3)
    array([[0.333, 0.   ]], dtype=float32)
    """
    ax0, ay0, ax1, ay1 = a.T.astype(np.float64)[:, :, None]
    bx0, by0, bx1, by1 = b.T.astype(np.float64)[:, None]
    width = np.minimum(ax1, bx1) - np.maximum(ax0, bx0)
    height = np.minimum(ay1, by1) - np.maximum(ay0, by0)
    intersection = np.maximum(width, 0.0) * np.maximum(height, 0.0)
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - intersection
    ious = np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0.0)
    return np.asarray(ious, np.float32)


def _pairs(points: Float) -> Float:
    return points.reshape(points.size // 2, 2)


def _even(side: float, limit: int) -> int:
    return max(MIN_SCALED, min(2 * round(side / 2), _even_below(limit)))


def _even_below(value: int) -> int:
    return value - value % 2
