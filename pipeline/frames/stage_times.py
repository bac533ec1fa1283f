"""How long frames spend in each step, in bounded memory."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from engines.arrays import Double
from pipeline.frames.types import Result

FOLD: Final = 256  # frames that are worked in together
SKIPPED, FIRST_SIZE = 0, 1  # of what StageTimes counts: frames, and batches by their size, from 1 on
MAX_SIZE: Final = 1024  # frames of a batch that are counted as such
BATCHES_OPEN: Final = 64  # batches whose frames may come by turns: more than shards have waiting


# Upper bounds of the buckets that metrics have, in seconds.
BOUNDS_S: Final = (
    *(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0),
)
SCHEMA: Final = 3  # of native histograms: a bucket's upper bound is 2 ** (index / 2**SCHEMA) seconds


@dataclass(frozen=True, slots=True)
class Histogram:
    """Latencies in the buckets of a metric."""

    cumulative: tuple[int, ...] = (0,) * len(BOUNDS_S)  # how many were within each of BOUNDS_S
    count: int = 0
    sum_s: float = 0.0
    native: dict[int, int] = field(default_factory=dict)  # how many, by the index of SCHEMA

    @property
    def within(self) -> list[tuple[float, int]]:
        """Each of BOUNDS_S, in seconds, with how many were within it."""
        return list(zip(BOUNDS_S, self.cumulative, strict=True))


class LatencyHistogram:
    """Latencies in logarithmic buckets 2 % apart, in bounded memory. Not thread-safe.

    >>> histogram = LatencyHistogram()
    >>> for ms in range(1, 101):
    ...     histogram.add(ms)
    >>> 49 < histogram.quantile(0.5) < 52, histogram.quantile(1.0)
    (True, 100)
    """

    RATIO = 1.02
    MIN_MS = 0.001
    _LOG_RATIO = math.log(RATIO)

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.sum_ms = 0.0
        self.worst_ms = 0.0

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds; what is below a microsecond counts as one."""
        self._buckets[round(math.log(max(ms, self.MIN_MS) / self.MIN_MS) / self._LOG_RATIO)] += 1
        self.count += 1
        self.sum_ms += ms
        self.worst_ms = max(self.worst_ms, ms)

    def add_all(self, ms: Double) -> None:
        """Note many latencies (N,), each as :meth:`add` does."""
        buckets = np.rint(np.log(np.maximum(ms, self.MIN_MS) / self.MIN_MS) / self._LOG_RATIO).astype(np.int64)
        found, counts = np.unique(buckets, return_counts=True)
        for bucket, count in zip(found.tolist(), counts.tolist(), strict=True):
            self._buckets[bucket] += count
        self.count += len(ms)
        self.sum_ms += float(ms.sum())
        self.worst_ms = max(self.worst_ms, float(ms.max()))

    def quantile(self, share: float) -> float:
        """The latency in milliseconds that ``share`` of all stay within; 0 when there are none."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.MIN_MS * self.RATIO**bucket, self.worst_ms)
        return self.worst_ms

    def copy(self) -> Self:
        """The same latencies, which no other thread adds to."""
        other = type(self)()
        other._buckets, other.count = self._buckets.copy(), self.count
        other.sum_ms, other.worst_ms = self.sum_ms, self.worst_ms
        return other

    def within_bounds(self) -> Histogram:
        """How many latencies were within each of BOUNDS_S, and in native buckets, exact to 1 % of a bound."""
        within, cumulative, buckets = 0, [], sorted(self._buckets.items(), reverse=True)
        for bound_s in BOUNDS_S:
            while buckets and self.MIN_MS * self.RATIO ** buckets[-1][0] <= 1000 * bound_s:
                within += buckets.pop()[1]
            cumulative.append(within)
        return Histogram(tuple(cumulative), self.count, self.sum_ms / 1000, self._native())

    def _native(self) -> dict[int, int]:
        native = Counter[int]()
        for bucket, count in self._buckets.items():
            native[math.ceil(math.log2(self.MIN_MS * self.RATIO**bucket / 1000) * 2**SCHEMA)] += count
        return dict(native)

    def summary(self) -> dict[str, float]:
        """Median, tail and worst, in milliseconds."""
        tails = {f"p{share}": round(self.quantile(share / 100), 2) for share in (50, 90, 95, 99)}
        return {**tails, "max": round(self.worst_ms, 2)}


@dataclass(frozen=True, slots=True)
class Times:
    """How long frames took so far, for metrics."""

    stages: dict[str, Histogram]  # of frames, by step; "total" is from capture to message
    engine: Histogram  # of batches
    skipped: int  # frames that were not inferred


class StageTimes:
    """How long frames spend in each step from capture to message, and in what batches. Used by one thread at a time.

    A frame is only noted. What it says is worked in, FOLD frames at once, or when somebody asks.

    Args:
        counts: int64 (FIRST_SIZE + largest batch,), perhaps in shared memory, where a process that died has counted
            frames that were not inferred and batches; None: of its own.
    """

    def __init__(self, counts: npt.NDArray[np.int64] | None = None) -> None:
        self._counts = np.zeros(FIRST_SIZE + MAX_SIZE, np.int64) if counts is None else counts
        self._noted: list[tuple[int, ...]] = []  # when each frame passed its steps, nanoseconds
        steps = ("wait", "preprocess", "queue", "infer", "post", "total")
        self._steps = {name: LatencyHistogram() for name in steps}
        self._sizes: dict[int, int] = {}  # frames so far of the last batches, by when the engine began each
        self._engine = LatencyHistogram()  # of batches

    @property
    def skipped(self) -> int:
        """How many frames were not inferred."""
        return int(self._counts[SKIPPED])

    def add(self, result: Result) -> None:
        """Note a finished frame."""
        timestamps = result.timestamps
        marks = (
            result.frame.clock_ns,
            timestamps.taken_ns,
            timestamps.ready_ns,
            timestamps.infer_started_ns,
            timestamps.infer_ended_ns,
            result.finished_ns,
        )
        self._noted.append(marks)
        if len(self._noted) >= FOLD:
            self._fold()
        if result.skipped:
            self._counts[SKIPPED] += 1
        else:
            self._count(timestamps.infer_started_ns, timestamps.infer_ended_ns)

    def _fold(self) -> None:
        """Work in what was noted."""
        if self._noted:
            marks = np.array(self._noted)
            self._noted.clear()
            steps = np.diff(marks[:, [*range(marks.shape[1]), 0]], axis=1) / 1e6
            steps[:, -1] *= -1.0  # from the end back to the beginning
            for histogram, ms in zip(self._steps.values(), steps.T, strict=True):
                histogram.add_all(ms)

    def _count(self, started_ns: int, ended_ns: int) -> None:
        # No two batches begin in the same nanosecond; the frames of one come beside those of its neighbours.
        size = self._sizes[started_ns] = self._sizes.pop(started_ns, 0) + 1
        if size == 1:
            self._engine.add((ended_ns - started_ns) / 1e6)
        if (place := FIRST_SIZE - 1 + size) < len(self._counts):
            self._counts[place] += 1
            self._counts[place - 1] -= size > 1
        if len(self._sizes) > BATCHES_OPEN:
            del self._sizes[next(iter(self._sizes))]

    def copy(self) -> Callable[[], Times]:
        """Copy what was noted so far, in microseconds; what is returned works the metrics out, in any thread."""
        self._fold()
        stages, engine = {name: histogram.copy() for name, histogram in self._steps.items()}, self._engine.copy()
        skipped = self.skipped
        return lambda: Times(
            {name: histogram.within_bounds() for name, histogram in stages.items()}, engine.within_bounds(), skipped
        )

    def summary(self) -> dict[str, dict[str, float]]:
        """Milliseconds by step: wait for a batch, letterbox, wait for the engine, engine, all after it, and the sum."""
        self._fold()
        return {name: histogram.summary() for name, histogram in self._steps.items()}

    def batches(self) -> dict[int, int]:
        """How many batches of each size the frames came in."""
        return batches_of(self._counts)


def batches_of(counts: npt.NDArray[np.int64]) -> dict[int, int]:
    """Return how many batches of each size a :class:`StageTimes` has counted."""
    return {size: count for size, count in enumerate(counts[FIRST_SIZE:].tolist(), 1) if count}
