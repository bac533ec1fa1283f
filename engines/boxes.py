"""Box arithmetic and the letterbox.

Coordinates are continuous: a picture of width W spans x from 0 to W, and its first pixel spans 0 to 1.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]

MIN_SCALED = 2  # one chroma sample of 4:2:0


@dataclass(frozen=True, slots=True)
class Letterbox:
    """How a source picture sits in the network's input. All in pixels; scaled size and padding are even (4:2:0)."""

    source: tuple[int, int]  # width, height
    target: tuple[int, int]  # width, height
    scaled: tuple[int, int]  # width, height of the picture inside the target
    pad: tuple[int, int]  # left, top

    def to_source(self, points: Float) -> Float:
        """Map xy pairs (..., 2k) from input pixels to source pixels (not clipped)."""
        mapped = (_pairs(points) - np.asarray(self.pad)) / self._scale()
        return np.asarray(mapped.reshape(points.shape), np.float32)

    def to_input(self, points: Float) -> Float:
        """Map xy pairs (..., 2k) from source pixels to input pixels."""
        mapped = _pairs(points) * self._scale() + np.asarray(self.pad)
        return np.asarray(mapped.reshape(points.shape), np.float32)

    def _scale(self) -> npt.NDArray[np.float64]:
        # One factor per axis: the scaled size is rounded to even numbers, so the two differ a little.
        return np.asarray(self.scaled, np.float64) / np.asarray(self.source, np.float64)


def letterbox(source: tuple[int, int], target: tuple[int, int]) -> Letterbox:
    """Fit ``source`` (width, height) into ``target`` keeping its shape, centred, scaled up or down.

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
    return Letterbox(source, target, (width, height), pad)


def iou_matrix(a: Float, b: Float) -> Float:
    """Intersection over union of every box of ``a`` (N, 4) with every box of ``b`` (M, 4), xyxy -> (N, M) in [0, 1].

    An empty box (no width or no height, or not a number) overlaps nothing, not even itself.

    >>> iou_matrix(np.array([[0, 0, 2, 2]], np.float32), np.array([[1, 0, 3, 2], [5, 5, 6, 6]], np.float32)).round(3)
    array([[0.333, 0.   ]], dtype=float32)
    """
    first, second = a.astype(np.float64)[:, None], b.astype(np.float64)[None]
    overlap = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    intersection = overlap.clip(min=0.0).prod(axis=-1)
    union = _areas(first) + _areas(second) - intersection
    ious = np.divide(intersection, union, out=np.zeros_like(intersection), where=intersection > 0)
    return np.asarray(ious, np.float32)


def clip_boxes(boxes: Float, size: tuple[int, int]) -> Float:
    """Move the corners of xyxy ``boxes`` (N, 4) into a picture of ``size`` (width, height); a box outside is empty."""
    width, height = size
    return np.asarray(boxes.clip(0.0, [width, height, width, height]), np.float32)


def filled(boxes: Float) -> npt.NDArray[np.bool_]:
    """Which of the xyxy ``boxes`` (N, 4) have an area: (N,) booleans; False for boxes that are not finite."""
    sized = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return np.asarray(sized & np.isfinite(boxes).all(axis=1), np.bool_)


def _pairs(points: Float) -> npt.NDArray[np.float64]:
    return points.reshape(*points.shape[:-1], points.shape[-1] // 2, 2).astype(np.float64)


def _areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    areas: npt.NDArray[np.float64] = (boxes[..., 2:] - boxes[..., :2]).clip(min=0.0).prod(axis=-1)
    return areas


def _even(side: float, limit: int) -> int:
    return max(MIN_SCALED, min(2 * round(side / 2), _even_below(limit)))


def _even_below(value: int) -> int:
    return value - value % 2
