"""Which track has which detection: pairs that overlap, and the best choice among them.

Boxes are xyxy and held coordinate by coordinate, (4, N): arithmetic on long rows is several times as fast as on short.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from engines.arrays import Double, Flags, Rows

WIDENED: Final = 0.5  # share of its sides by which a box is widened, on each side


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of tracks and detections that overlap; most tracks overlap few detections, so K is near T, not T x N."""

    tracks: Rows  # (K,)
    detections: Rows  # (K,)
    ious: Double  # (K,) above 0

    def __len__(self) -> int:
        return len(self.tracks)

    def where(self, chosen: Flags) -> Self:
        """The pairs where ``chosen`` (K,) is True."""
        return type(self)(self.tracks[chosen], self.detections[chosen], self.ious[chosen])


def overlapping(tracks: Double, detections: Double) -> Pairs:
    """The pairs that have an area in common of boxes (4, T) and (4, N), with their intersection over union."""
    rows, columns = touching(tracks, detections)
    return Pairs(rows, columns, ious(tracks.take(rows, 1), detections.take(columns, 1)))


def touching(tracks: Double, detections: Double) -> tuple[Rows, Rows]:
    """The pairs that have an area in common of boxes (4, T) and (4, N): rows (K,) and columns (K,)."""
    left, top, right, bottom = detections
    a = tracks[:, :, None]
    common = a[0] < right
    common &= a[2] > left
    common &= a[1] < bottom
    common &= a[3] > top
    (flat,) = common.ravel().nonzero()
    rows = flat // max(len(left), 1)
    return rows, flat - rows * len(left)


def ious(a: Double, b: Double) -> Double:
    """Intersection over union, one by one, of boxes (4, K) that have an area in common: (K,)."""
    shared = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    sides_a, sides_b = a[2:] - a[:2], b[2:] - b[:2]
    intersection = shared[0] * shared[1]
    union = sides_a[0] * sides_a[1] + sides_b[0] * sides_b[1] - intersection
    return np.asarray(intersection / union, np.float64)


def by_coordinate(boxes: npt.NDArray[np.float32]) -> Double:
    """Boxes (N, 4) as (4, N): x0, y0, x1, y1, each in one piece of memory."""
    return np.asarray(boxes.T, np.float64, order="C")


def moved(boxes: Double, motion: Double) -> Double:
    """The boxes (4, N) after a shift, turn and zoom (2, 3): their centres go along, and their sides grow or shrink."""
    centres, half = (boxes[:2] + boxes[2:]) / 2, (boxes[2:] - boxes[:2]) / 2
    centres = motion[:, :2] @ centres + motion[:, 2:]
    half *= np.sqrt(abs(np.linalg.det(motion[:, :2])))
    return np.concatenate([centres - half, centres + half])


def best(tracks: Rows, detections: Rows, gains: Double, shape: tuple[int, int]) -> Flags:
    """Choose pairs with the greatest sum of ``gains`` so that no track and no detection has two.

    Args:
        tracks: (K,) row of each pair.
        detections: (K,) column of each pair.
        gains: (K,) above 0.
        shape: how many tracks and detections there are.

    Returns:
        (K,) which pairs were chosen.
    """
    rivals = np.bincount(tracks, minlength=shape[0])[tracks] + np.bincount(detections, minlength=shape[1])[detections]
    chosen: Flags = rivals == 2
    if not chosen.all():
        # Only where there is a choice is there a problem to solve, and it is small.
        open_ = np.flatnonzero(~chosen)
        rows, height = _numbered(tracks[open_], shape[0])
        columns, width = _numbered(detections[open_], shape[1])
        worth = np.zeros((height, width))
        worth[rows, columns] = gains[open_]
        matched = np.full(height, -1)
        first, second = linear_sum_assignment(worth, maximize=True)
        matched[first] = second
        chosen[open_] = matched[rows] == columns
    return chosen


def _numbered(values: Rows, limit: int) -> tuple[Rows, int]:
    """The values as numbers from 0 without gaps, and how many there are."""
    present = np.zeros(limit, np.int64)
    present[values] = 1
    numbers = np.cumsum(present)
    return numbers[values] - 1, int(numbers[-1])


def match(pairs: Pairs, allowed: Flags, gains: Double, matched: Rows, taken: Flags) -> None:
    """Write the best of the ``allowed`` pairs into ``matched`` and ``taken``, of which none is used twice."""
    if not allowed.any():
        return
    (rows,) = (allowed & (matched[pairs.tracks] < 0) & ~taken[pairs.detections]).nonzero()
    if len(rows):
        rows = rows[best(pairs.tracks[rows], pairs.detections[rows], gains[rows], (len(matched), len(taken)))]
        matched[pairs.tracks[rows]] = pairs.detections[rows]
        taken[pairs.detections[rows]] = True


def widened(boxes: Double) -> Double:
    """The boxes (4, N), each reaching further on all sides."""
    sides = (boxes[2:] - boxes[:2]) * WIDENED
    return np.concatenate([boxes[:2] - sides, boxes[2:] + sides])
