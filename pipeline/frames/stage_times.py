"""How long frames spend in each step, in bounded memory."""

import math
from collections import Counter
from typing import Final

from pipeline.frames.types import Result

BATCHES_OPEN: Final = 64  # batches whose frames may come by turns: more than shards have waiting


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

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.worst_ms = 0.0

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds; what is below a microsecond counts as one."""
        self._buckets[round(math.log(max(ms, self.MIN_MS) / self.MIN_MS, self.RATIO))] += 1
        self.count += 1
        self.worst_ms = max(self.worst_ms, ms)

    def quantile(self, share: float) -> float:
        """The latency in milliseconds that ``share`` of all stay within; 0 when there are none."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.MIN_MS * self.RATIO**bucket, self.worst_ms)
        return self.worst_ms

    def summary(self) -> dict[str, float]:
        """Median, tail and worst, in milliseconds."""
        tails = {f"p{share}": round(self.quantile(share / 100), 2) for share in (50, 90, 95, 99)}
        return {**tails, "max": round(self.worst_ms, 2)}


class StageTimes:
    """How long frames spend in each step from capture to message, and in what batches. Used by one thread at a time."""

    def __init__(self) -> None:
        steps = ("wait", "preprocess", "queue", "infer", "post", "total")
        self._steps = {name: LatencyHistogram() for name in steps}
        self._sizes: dict[int, int] = {}  # frames so far of the last batches, by when the engine began each
        self._batches: Counter[int] = Counter()
        self.skipped = 0  # frames that were not inferred

    def add(self, result: Result) -> None:
        """Note a finished frame."""
        began, timestamps = result.frame.clock_ns, result.timestamps
        marks = (
            began,
            timestamps.taken_ns,
            timestamps.ready_ns,
            timestamps.infer_started_ns,
            timestamps.infer_ended_ns,
            result.finished_ns,
        )
        for name, start, end in zip(self._steps, marks, marks[1:], strict=False):
            self._steps[name].add((end - start) / 1e6)
        self._steps["total"].add((result.finished_ns - began) / 1e6)
        if result.skipped:
            self.skipped += 1
        else:
            self._count(timestamps.infer_started_ns)

    def _count(self, started_ns: int) -> None:
        # No two batches begin in the same nanosecond; the frames of one come beside those of its neighbours.
        size = self._sizes[started_ns] = self._sizes.pop(started_ns, 0) + 1
        self._batches[size - 1] -= 1
        self._batches[size] += 1
        if len(self._sizes) > BATCHES_OPEN:
            del self._sizes[next(iter(self._sizes))]

    def summary(self) -> dict[str, dict[str, float]]:
        """Milliseconds by step: wait for a batch, letterbox, wait for the engine, engine, all after it, and the sum."""
        return {name: histogram.summary() for name, histogram in self._steps.items()}

    def batches(self) -> dict[int, int]:
        """How many batches of each size the frames came in."""
        return {size: count for size, count in sorted(self._batches.items()) if size and count}
