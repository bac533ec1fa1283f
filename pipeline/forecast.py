"""What batching goes by: how long the engine will take, and when a stream's next frame is due. Pure state, ns."""

import math
from collections import defaultdict, deque
from collections.abc import Sequence

RUNS = 64  # of the engine that are remembered: the machine's load changes, sizes go out of use
SURE_RUNS = 3  # of one size from which on their median counts, and not the line through all sizes
GAPS = 9  # between frames that are remembered
SLACK_NS = 200_000  # that any frame may be late by, for threads to wake
SPREADS = 3.0  # and this times the median absolute deviation of the gaps: two standard deviations of a normal one

STALLED = 1.5  # times the longest gap
FADE = 0.98  # what the engine's load counts still with each batch that follows
MOST_LOAD = 0.95


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
        self._runs: deque[tuple[int, float]] = deque(maxlen=RUNS)
        self._medians: dict[int, float] = {}
        self._base = 0.0  # of the line: what a batch costs however small it is ...
        self._slope = 0.0  # ... and what each of its frames adds

    def add(self, size: int, ns: float) -> None:
        """A batch of ``size`` frames kept the engine busy for so long."""
        self._runs.append((size, ns))
        by_size = defaultdict[int, list[float]](list)
        for each, took in self._runs:
            by_size[each].append(took)
        medians = {each: median(took) for each, took in by_size.items()}
        self._fit({each: (medians[each], len(took)) for each, took in by_size.items()})
        self._medians = {0: 0.0} | {each: medians[each] for each, took in by_size.items() if len(took) >= SURE_RUNS}

    def of(self, size: int) -> float:
        """Nanoseconds that a batch of this size will take; 0 as long as nothing has run."""
        return self._medians.get(size, self._base + self._slope * size)

    def saving(self, size: int) -> float:
        """What the engine is spared when one more frame joins a batch of ``size`` instead of running alone; 0 or more.

        As long as only one size was seen a frame is taken to cost the same everywhere, so that nothing is spared.
        """
        return max(0.0, self.of(size) + self.of(1) - self.of(size + 1))

    def _fit(self, points: dict[int, tuple[float, int]]) -> None:
        """Least squares over the median of each size, weighted by how often it ran."""
        weight = sum(count for _, count in points.values())
        mean_size = sum(size * count for size, (_, count) in points.items()) / weight
        mean_ns = sum(ns * count for ns, count in points.values()) / weight
        spread = sum(count * (size - mean_size) ** 2 for size, (_, count) in points.items())
        if not spread:
            self._base, self._slope = 0.0, mean_ns / mean_size
            return
        rise = sum(count * (size - mean_size) * (ns - mean_ns) for size, (ns, count) in points.items())
        self._slope = max(0.0, min(rise / spread, mean_ns / mean_size))
        self._base = mean_ns - self._slope * mean_size


class Rhythm:
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
        """In [0, MOST_LOAD]."""
        return min(self._busy_ns / self._all_ns, MOST_LOAD) if self._all_ns else 0.0
