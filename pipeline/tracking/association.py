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


def overlapping(tracks: Double, detections: Double, kinds: tuple[Rows, Rows] | None = None) -> Pairs:
    """The pairs that have an area in common of boxes (4, T) and (4, N), with their intersection over union.

    With ``kinds`` (T,) and (N,) only those that are of the same kind.
    """
    rows, columns = touching(tracks, detections)
    if kinds is not None:
        (same,) = (kinds[0].take(rows) == kinds[1].take(columns)).nonzero()
        rows, columns = rows.take(same), columns.take(same)
    return Pairs(rows, columns, ious(tracks.take(rows, 1), detections.take(columns, 1)))


def touching(tracks: Double, detections: Double) -> tuple[Rows, Rows]:
    """The pairs that have an area in common of boxes (4, T) and (4, N): rows (K,) and columns (K,)."""
    along = tracks[:2, :, None] < detections[2:, None]  # by x and y
    along &= tracks[2:, :, None] > detections[:2, None]
    common, count = along[0], detections.shape[1]
    common &= along[1]
    (flat,) = common.reshape(-1).nonzero()
    rows = flat // max(count, 1)
    return rows, flat - rows * count


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
    rivals = np.bincount(tracks, minlength=shape[0]).take(tracks)
    rivals += np.bincount(detections, minlength=shape[1]).take(detections)
    chosen: Flags = rivals == 2
    (open_,) = (rivals > 2).nonzero()
    if len(open_):
        # Only where there is a choice is there a problem to solve, and it is small.
        rows, height = _numbered(tracks.take(open_), shape[0])
        columns, width = _numbered(detections.take(open_), shape[1])
        worth = np.zeros((height, width))
        worth.reshape(-1)[rows * width + columns] = gains.take(open_)
        matched = np.empty(height, np.int64)
        matched.fill(-1)
        first, second = linear_sum_assignment(worth, maximize=True)
        matched[first] = second
        chosen[open_] = matched.take(rows) == columns
    return chosen


def _numbered(values: Rows, limit: int) -> tuple[Rows, int]:
    """The values as numbers from 0 without gaps, and how many there are."""
    present = np.zeros(limit, np.int64)
    present[values] = 1
    numbers = present.cumsum()
    return numbers.take(values) - 1, int(numbers[-1])


def match(pairs: Pairs, allowed: Flags, gains: Double, matched: Rows, taken: Flags) -> None:
    """Write the best of the ``allowed`` pairs into ``matched`` and ``taken``, of which none is used twice."""
    (rows,) = allowed.nonzero()
    if not len(rows):
        return
    tracks, detections = pairs.tracks.take(rows), pairs.detections.take(rows)
    if np.count_nonzero(taken):  # not in the first pass
        (free,) = ((matched.take(tracks) < 0) & ~taken.take(detections)).nonzero()
        if not len(free):
            return
        rows, tracks, detections = rows.take(free), tracks.take(free), detections.take(free)
    (rows,) = best(tracks, detections, gains.take(rows), (len(matched), len(taken))).nonzero()
    tracks, detections = tracks.take(rows), detections.take(rows)
    matched[tracks] = detections
    taken[detections] = True


def widened(boxes: Double) -> Double:
    """The boxes (4, N), each reaching further on all sides."""
    sides = (boxes[2:] - boxes[:2]) * WIDENED
    return np.concatenate([boxes[:2] - sides, boxes[2:] + sides])
