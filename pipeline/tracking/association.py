"""Which track has which detection: pairs that overlap, and the best choice among them.

Boxes are xyxy and held coordinate by coordinate, (4, N): arithmetic on long rows is several times as fast as on short.
Those of several streams, stream after stream, are looked at together: a NumPy call costs about as much for eight as for
one.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from engines.arrays import Double, Flags, Rows

FEW: Final = 48  # pairs, among which the best are chosen at once
WIDENED: Final = 0.5  # share of its sides by which a box is widened, on each side


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of tracks and detections that overlap; most tracks overlap few detections, so K is near T, not T x N."""

    tracks: Rows  # (K,)
    detections: Rows  # (K,)
    ious: Double  # (K,) above 0

    def __len__(self) -> int:
        return len(self.tracks)

    def take(self, rows: Rows) -> Self:
        """Those of some rows."""
        return type(self)(self.tracks.take(rows), self.detections.take(rows), self.ious.take(rows))


@dataclass(frozen=True, slots=True)
class Blocks:
    """Rows that belong to streams, stream after stream."""

    counts: Rows  # (B,) rows of each stream
    starts: Rows  # (B,) its first

    @classmethod
    def of(cls, streams: Rows, count: int) -> Self:
        """Of rows (N,) by the number of their stream, below ``count``, ascending."""
        counts = np.bincount(streams, minlength=count)
        return cls(counts, counts.cumsum() - counts)

    def padded(self, columns: Double) -> Double:
        """The columns (R, N) as (R, B, W), W the most of a stream; what is over is not a number."""
        if len(self.counts) == 1:
            return columns[:, None]
        count, width = len(self.counts), int(np.maximum.reduce(self.counts))
        out = np.empty((len(columns), count, width))
        out.fill(np.nan)
        place = (np.arange(0, count * width, width) - self.starts).repeat(self.counts)
        place += np.arange(len(place))
        out.reshape(len(columns), -1)[:, place] = columns
        return out


def overlapping(tracks: Double, detections: Double, kinds: tuple[Rows, Rows] | None = None) -> Pairs:
    """The pairs that have an area in common of boxes (4, T) and (4, N), with their intersection over union.

    With ``kinds`` (T,) and (N,) only those that are of the same kind.
    """
    return compared(tracks, detections, kinds, touching(tracks, detections))


def compared(tracks: Double, detections: Double, kinds: tuple[Rows, Rows] | None, pairs: tuple[Rows, Rows]) -> Pairs:
    """Such pairs, which touch, with their intersection over union, if they are of the same kind; see above."""
    rows, columns = pairs
    if kinds is not None:
        (same,) = (kinds[0].take(rows) == kinds[1].take(columns)).nonzero()
        rows, columns = rows.take(same), columns.take(same)
    return Pairs(rows, columns, ious(tracks.take(rows, 1), detections.take(columns, 1)))


def touching(tracks: Double, detections: Double) -> tuple[Rows, Rows]:
    """The pairs that have an area in common of boxes (4, T) and (4, N): rows (K,) and columns (K,)."""
    flat, count = _common(tracks, detections), detections.shape[1]
    rows = flat // max(count, 1)
    return rows, flat - rows * count


def touching_within(tracks: Double, detections: Double, of_tracks: Blocks, of_found: Blocks) -> tuple[Rows, Rows]:
    """The pairs that have an area in common within each of several streams; see :func:`touching`."""
    if len(of_tracks.counts) == 1:
        return touching(tracks, detections)
    if not tracks.shape[1] or not detections.shape[1]:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    a, b = of_tracks.padded(tracks), of_found.padded(detections)
    flat, height, width = _common(a, b), a.shape[2], b.shape[2]
    rows = flat // width
    columns, streams = flat - rows * width, rows // height
    rows += (of_tracks.starts - np.arange(0, height * len(of_tracks.starts), height)).take(streams)
    columns += of_found.starts.take(streams)
    return rows, columns


def _common(a: Double, b: Double) -> Rows:
    """Which of the boxes (4, ..., T) have an area in common with which of (4, ..., N), as rows of (... x T x N)."""
    along = a[:2, ..., None] < b[2:, ..., None, :]  # by x and y
    along &= a[2:, ..., None] > b[:2, ..., None, :]
    common = along[0]
    common &= along[1]
    flat: Rows = common.reshape(-1).nonzero()[0]
    return flat


def ious(a: Double, b: Double) -> Double:
    """Intersection over union, one by one, of boxes (4, K) that have an area in common: (K,)."""
    shared = np.minimum(a[2:], b[2:])
    shared -= np.maximum(a[:2], b[:2])
    sides_a, sides_b = a[2:] - a[:2], b[2:] - b[:2]
    intersection = shared[0] * shared[1]
    union = sides_a[0] * sides_a[1]
    union += sides_b[0] * sides_b[1]
    union -= intersection
    intersection /= union
    return np.asarray(intersection, np.float64)


def by_coordinate(boxes: npt.NDArray[np.float32]) -> Double:
    """Boxes (N, 4) as (4, N): x0, y0, x1, y1, each in one piece of memory."""
    return np.asarray(boxes.T, np.float64, order="C")


def moved(boxes: Double, motion: Double) -> Double:
    """The boxes (4, N) after a shift, turn and zoom (2, 3): their centres go along, and their sides grow or shrink."""
    centres, half = (boxes[:2] + boxes[2:]) / 2, (boxes[2:] - boxes[:2]) / 2
    centres = motion[:, :2] @ centres + motion[:, 2:]
    half *= np.sqrt(abs(np.linalg.det(motion[:, :2])))
    return np.concatenate([centres - half, centres + half])


def best(tracks: Rows, detections: Rows, gains: Double, shape: tuple[int, int]) -> Rows:
    """Choose pairs with the greatest sum of ``gains`` so that no track and no detection has two.

    Args:
        tracks: (K,) row of each pair.
        detections: (K,) column of each pair.
        gains: (K,) above 0.
        shape: how many tracks and detections there are.

    Returns:
        Which pairs were chosen.
    """
    chosen, left = list[Rows](), np.arange(len(tracks))
    while len(left) > FEW:
        # A pair worth more than all others of its track and of its detection together is in every best choice: whatever
        # else they had could be given up for it.
        others = np.bincount(tracks, gains, shape[0]).take(tracks)
        others += np.bincount(detections, gains, shape[1]).take(detections)
        (won,) = (3.0 * gains > others).nonzero()  # itself is in both sums
        if not len(won):
            break
        chosen.append(left.take(won))
        open_track, open_detection = np.ones(shape[0], np.bool_), np.ones(shape[1], np.bool_)
        open_track[tracks.take(won)] = open_detection[detections.take(won)] = False
        (rest,) = (open_track.take(tracks) & open_detection.take(detections)).nonzero()
        left, tracks, detections, gains = left.take(rest), tracks.take(rest), detections.take(rest), gains.take(rest)
    if len(left):
        chosen.append(left.take(_assigned(tracks, detections, gains, shape)))
    return np.concatenate(chosen) if chosen else left


def _assigned(tracks: Rows, detections: Rows, gains: Double, shape: tuple[int, int]) -> Rows:
    """The same by one table of all that are in a pair."""
    rows, height = _numbered(tracks, shape[0])
    columns, width = _numbered(detections, shape[1])
    worth = np.zeros((height, width))
    worth.reshape(-1)[rows * width + columns] = gains
    matched = np.empty(height, np.int64)
    matched.fill(-1)
    first, second = solver()(worth, maximize=True)
    matched[first] = second
    won: Rows = (matched.take(rows) == columns).nonzero()[0]
    return won


@cache
def solver() -> Any:
    """Return SciPy's solver of the assignment problem: the first call imports it."""
    from scipy.optimize import linear_sum_assignment  # takes as long as all else that a run imports

    return linear_sum_assignment


def _numbered(values: Rows, limit: int) -> tuple[Rows, int]:
    """The values as numbers from 0 without gaps, and how many there are."""
    present = np.zeros(limit, np.int64)
    present[values] = 1
    numbers = present.cumsum()
    return numbers.take(values) - 1, int(numbers[-1])


def match(pairs: Pairs, gains: Double, matched: Rows, taken: Flags) -> None:
    """Write the best of the pairs, by ``gains`` (K,), into ``matched`` and ``taken``, of which none is used twice."""
    if np.count_nonzero(taken):  # not in the first pass
        (free,) = ((matched.take(pairs.tracks) < 0) & ~taken.take(pairs.detections)).nonzero()
        pairs, gains = pairs.take(free), gains.take(free)
    if len(pairs):
        pairs = pairs.take(best(pairs.tracks, pairs.detections, gains, (len(matched), len(taken))))
        matched[pairs.tracks] = pairs.detections
        taken[pairs.detections] = True


def widened(boxes: Double) -> Double:
    """The boxes (4, N), each reaching further on all sides."""
    sides = (boxes[2:] - boxes[:2]) * WIDENED
    return np.concatenate([boxes[:2] - sides, boxes[2:] + sides])
