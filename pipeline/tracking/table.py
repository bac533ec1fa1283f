"""What is known of the tracks of a stream, row by row; tables of several streams are joined, worked on and parted."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final, Self

import numpy as np

from engines.arrays import Double, Ints, Labels, Rows
from pipeline.tracking.kalman import BoxFilters

TENTATIVE_SHARE: Final = 1 / 5  # of max_lost_s: what was seen once or twice is given up sooner
PATIENT_FRAMES: Final = 2.5  # at low frame rates a track may miss one frame, whatever max_lost_s says
TENTATIVE_FRAMES: Final = 1.5  # and an unconfirmed one none
GAPS: Final = 9  # frame intervals that the usual interval is the median of

ID, KIND, LABEL, HITS = range(4)
LAST, EVIDENCE, UNSEEN_S = slice(4), 4, 5


class TrackTable:
    """Tracks, row by row.

    Attributes:
        filters: where each is, as of its last detection.
        whole: (4, T) whole numbers: ids, 0 while never shown, kinds, labels, and how many detections each had.
        real: (6, T): xyxy of the last detection, evidence, and seconds since.
        appearance: (T, D) what each looks like, if that is known.
    """

    __slots__ = ("appearance", "filters", "real", "whole")

    def __init__(self, filters: BoxFilters, whole: Ints, real: Double, appearance: Double | None = None) -> None:
        self.filters, self.whole, self.real, self.appearance = filters, whole, real, appearance

    @classmethod
    def begun(cls, kinds: Rows, labels: Labels, boxes: Double, evidence: Double, appearance: Double | None) -> Self:
        """Tracks that begin with a detection each: kinds, labels, evidence (N,) and boxes (4, N)."""
        filters, count = BoxFilters(), len(kinds)
        filters.append(boxes)
        whole, real = np.zeros((4, count), np.int64), np.zeros((6, count))
        whole[KIND], whole[LABEL], whole[HITS] = kinds, labels, 1
        real[LAST], real[EVIDENCE] = boxes, evidence
        return cls(filters, whole, real, appearance)

    @classmethod
    def joined(cls, tables: "Sequence[TrackTable]") -> "TrackTable":
        """Those of all tables, one after the other, in memory of their own; one alone as it is."""
        if len(tables) == 1:
            return tables[0]
        looks = [each.appearance for each in tables if each.appearance is not None]
        width = looks[0].shape[1] if looks else 0
        unknown = (np.zeros((len(each), width)) if each.appearance is None else each.appearance for each in tables)
        return cls(
            BoxFilters.joined([each.filters for each in tables]),
            np.concatenate([each.whole for each in tables], axis=1),
            np.concatenate([each.real for each in tables], axis=1),
            np.concatenate(list(unknown)) if looks else None,
        )

    def __len__(self) -> int:
        return int(self.whole.shape[1])

    def part(self, rows: slice) -> Self:
        """Those of some rows; the memory is shared."""
        looks = None if self.appearance is None else self.appearance[rows]
        return type(self)(self.filters.part(rows), self.whole[:, rows], self.real[:, rows], looks)

    def take(self, rows: Rows) -> None:
        """Keep these rows, in this order."""
        self.filters.take(rows)
        self.whole, self.real = self.whole.take(rows, 1), self.real.take(rows, 1)
        if self.appearance is not None:
            self.appearance = self.appearance.take(rows, 0)

    @property
    def ids(self) -> Rows:
        return np.asarray(self.whole[ID], np.int64)

    @property
    def kinds(self) -> Rows:
        return np.asarray(self.whole[KIND], np.int64)

    @property
    def labels(self) -> Ints:
        return np.asarray(self.whole[LABEL], np.int64)

    @property
    def hits(self) -> Rows:
        return np.asarray(self.whole[HITS], np.int64)

    @property
    def last(self) -> Double:
        return np.asarray(self.real[LAST], np.float64)

    @property
    def evidence(self) -> Double:
        return np.asarray(self.real[EVIDENCE], np.float64)

    @property
    def unseen_s(self) -> Double:
        return np.asarray(self.real[UNSEEN_S], np.float64)


def _no_tracks() -> TrackTable:
    return TrackTable(BoxFilters(), np.zeros((4, 0), np.int64), np.zeros((6, 0)))


@dataclass(slots=True)
class StreamState:
    """All that a tracker knows of one stream; times are stream time."""

    next_ids: list[int]  # of each kind
    table: TrackTable = field(default_factory=_no_tracks)
    time_s: float | None = None  # of the last frame
    updated_s: float = 0.0  # and of the last that was inferred
    gaps: deque[float] = field(default_factory=lambda: deque(maxlen=GAPS))

    def advance(self, time_s: float) -> float:
        """Seconds since the last frame."""
        if self.time_s is None:
            self.time_s = self.updated_s = time_s
        step = max(0.0, time_s - self.time_s)
        if time_s > self.updated_s:
            self.gaps.append(time_s - self.updated_s)
        self.time_s = self.updated_s = time_s
        return step

    def patience(self, max_lost_s: float) -> tuple[float, float]:
        """Seconds without a detection after which a track has ended that was shown, and one that was not."""
        gap = median(self.gaps) if self.gaps else 0.0
        return max(max_lost_s, PATIENT_FRAMES * gap), max(max_lost_s * TENTATIVE_SHARE, TENTATIVE_FRAMES * gap)
