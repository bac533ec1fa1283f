"""What batching goes by: how long the engine will take, and when a stream's next frame is due. Pure state, ns."""

import math
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Sequence

RUNS = 64  # of the engine that are remembered: the machine's load changes, sizes go out of use
SURE_RUNS = 3  # of one size from which on their median counts, and not the line through all sizes
GAPS = 9  # between frames that are remembered
SLACK_NS = 200_000  # that any frame may be late by, for threads to wake
SPREADS = 3.0  # and this times the median absolute deviation of the gaps: two standard deviations of a normal one

STALLED = 1.5  # times the longest gap
FADE = 0.98  # what the engine's load counts still with each batch that follows
MAX_LOAD = 0.95


def median(values: Sequence[float]) -> float:
    """The upper median, which one outlier does not move."""
    return sorted(values)[len(values) // 2]


class EngineTimes:
    """How long the engine takes for a batch, by its size: medians of late, and a line where a size is rare.

    >>> times = EngineTimes()
    >>> for size, ns in ((1, 2_000), (4, 5_000)) * 3:
    ...     times.add(size, ns)
    >>> times.of(1), times.of(2), times.saving(1)
    (2000.0, 3000.0, 1000.0)
    """

    def __init__(self) -> None:
        self._runs: deque[tuple[int, float]] = deque()
        self._sorted: dict[int, list[float]] = {}  # the times of those, by size
        self._line: tuple[float, float] | None = (0.0, 0.0)  # what any batch costs, and each of its frames; None: stale

    def add(self, size: int, ns: float) -> None:
        """A batch of ``size`` frames kept the engine busy for so long."""
        self._runs.append((size, ns))
        insort(self._sorted.setdefault(size, []), ns)
        if len(self._runs) > RUNS:
            self._forget(*self._runs.popleft())
        self._line = None

    def of(self, size: int) -> float:
        """Nanoseconds that a batch of this size will take; 0 as long as nothing has run."""
        times = self._sorted.get(size, ())
        if len(times) >= SURE_RUNS:
            return times[len(times) // 2]
        if not size:
            return 0.0
        if self._line is None:
            self._line = self._fit()
        base, slope = self._line
        return base + slope * size

    def saving(self, size: int) -> float:
        """What the engine is spared when one more frame joins a batch of ``size`` instead of running alone; 0 or more.

        As long as only one size was seen a frame is taken to cost the same everywhere, so that nothing is spared.
        """
        return max(0.0, self.of(size) + self.of(1) - self.of(size + 1))

    def _forget(self, size: int, ns: float) -> None:
        times = self._sorted[size]
        del times[bisect_left(times, ns)]
        if not times:
            del self._sorted[size]

    def _fit(self) -> tuple[float, float]:
        """Least squares over the median of each size, weighted by how often it ran."""
        points = [(size, times[len(times) // 2], len(times)) for size, times in self._sorted.items()]
        weight = sum(count for _, _, count in points)
        mean_size = sum(size * count for size, _, count in points) / weight
        mean_ns = sum(ns * count for _, ns, count in points) / weight
        spread = sum(count * (size - mean_size) ** 2 for size, _, count in points)
        if not spread:
            return 0.0, mean_ns / mean_size
        rise = sum(count * (size - mean_size) * (ns - mean_ns) for size, ns, count in points)
        slope = max(0.0, min(rise / spread, mean_ns / mean_size))
        return mean_ns - slope * mean_size, slope


class ArrivalEstimator:
    """When the next frame of a stream is due, from the gaps between those before it.

    Attributes:
        due_ns: the moment; infinite while nobody knows.
        missing_ns: the moment from which on the frame is not to be counted on any more.
        stalled_ns: the same for whoever has time: later than any frame of late came.
    """

    __slots__ = ("_gaps", "_last_ns", "due_ns", "missing_ns", "stalled_ns")

    def __init__(self) -> None:
        self._gaps: deque[int] = deque(maxlen=GAPS)
        self._last_ns: int | None = None
        self.due_ns = self.missing_ns = self.stalled_ns = math.inf

    def beat(self, now_ns: int) -> None:
        """A frame has come."""
        if self._last_ns is not None:
            self._gaps.append(now_ns - self._last_ns)
            usual = median(self._gaps)
            self.due_ns = now_ns + usual
            self.missing_ns = self.due_ns + SLACK_NS + SPREADS * median([abs(gap - usual) for gap in self._gaps])
            self.stalled_ns = now_ns + SLACK_NS + STALLED * max(self._gaps)
        self._last_ns = now_ns


class Load:
    """The share of its time that the engine was busy of late."""

    def __init__(self) -> None:
        self._busy_ns = self._all_ns = 0.0

    def add(self, busy_ns: float, all_ns: float) -> None:
        """The engine was busy for the last ``busy_ns`` of ``all_ns``."""
        self._busy_ns = FADE * self._busy_ns + busy_ns
        self._all_ns = FADE * self._all_ns + all_ns

    @property
    def share(self) -> float:
        """In [0, MAX_LOAD]."""
        return min(self._busy_ns / self._all_ns, MAX_LOAD) if self._all_ns else 0.0
