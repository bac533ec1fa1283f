"""The books of a run: captured = published + sum(dropped by cause) + in flight; and where the time went."""

import math
import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.types import Result

SETTLE_S: Final = 60.0
SETTLE_LOOK_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Account:
    """One stream's frames so far."""

    captured: int
    published: int
    dropped: dict[str, int]  # by cause: stale, crash, shutdown

    @property
    def in_flight(self) -> int:
        """Frames between capture and message right now; 0 after a run, or there is a bug."""
        return self.captured - self.published - sum(self.dropped.values())


class Books(Protocol):
    """Where the books of a run can be read."""

    def of(self, stream: str) -> Account:
        """The books of one stream."""
        ...


def await_last_frame(books: Books, stream: str) -> None:
    """Until no frame of a stream is in flight; a minute at most, in case there is a bug."""
    end = time.monotonic() + SETTLE_S
    while books.of(stream).in_flight and time.monotonic() < end:
        time.sleep(SETTLE_LOOK_S)


class Accounts:
    """The books of all streams of a run in one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured: Counter[str] = Counter()
        self._published: Counter[str] = Counter()
        self._dropped: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def captured(self, stream: str, count: int = 1) -> None:
        """A source gave frames."""
        with self._lock:
            self._captured[stream] += count

    def published(self, stream: str) -> None:
        """One frame's message was sent."""
        with self._lock:
            self._published[stream] += 1

    def dropped(self, stream: str, cause: str, count: int = 1) -> None:
        """Frames were given up."""
        with self._lock:
            self._dropped[stream][cause] += count

    def of(self, stream: str) -> Account:
        """The books of one stream."""
        with self._lock:
            return Account(self._captured[stream], self._published[stream], dict(self._dropped[stream]))


class LatencyHistogram:
    """Latencies in logarithmic buckets 2 % apart, in bounded memory. Not thread-safe.

    >>> histogram = LatencyHistogram()
    >>> for ms in range(1, 101):
    ...     histogram.add(ms)
    >>> 49 < histogram.quantile(0.5) < 52, histogram.quantile(1.0)
    (True, 100)
    """

    RATIO = 1.02
    LEAST_MS = 0.001

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.worst_ms = 0.0

    def add(self, ms: float) -> None:
        """Note one latency in milliseconds; what is below a microsecond counts as one."""
        self._buckets[round(math.log(max(ms, self.LEAST_MS) / self.LEAST_MS, self.RATIO))] += 1
        self.count += 1
        self.worst_ms = max(self.worst_ms, ms)

    def quantile(self, share: float) -> float:
        """The latency in milliseconds that ``share`` of all stay within; 0 when there are none."""
        wanted, seen = share * self.count, 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= wanted:
                return min(self.LEAST_MS * self.RATIO**bucket, self.worst_ms)
        return self.worst_ms

    def summary(self) -> dict[str, float]:
        """Median, tail and worst, in milliseconds."""
        tails = {f"p{share}": round(self.quantile(share / 100), 2) for share in (50, 90, 95, 99)}
        return {**tails, "max": round(self.worst_ms, 2)}


class StageTimes:
    """How long frames spend in each step from capture to message, and in what batches. Used by one thread."""

    def __init__(self) -> None:
        steps = ("wait", "preprocess", "queue", "infer", "post", "total")
        self._steps = {name: LatencyHistogram() for name in steps}
        self._batch_of_ns = 0  # when the engine began the batch that frames come from now
        self._batch_size = 0
        self._batches: Counter[int] = Counter()
        self.carried = 0  # frames that were not inferred

    def add(self, result: Result) -> None:
        """Note a finished frame."""
        began, stamps = result.frame.clock_ns, result.identified.tracked.observed.stamps
        marks = (
            began,
            stamps.taken_ns,
            stamps.ready_ns,
            stamps.infer_started_ns,
            stamps.infer_ended_ns,
            result.finished_ns,
        )
        for name, start, end in zip(self._steps, marks, marks[1:], strict=False):
            self._steps[name].add((end - start) / 1e6)
        self._steps["total"].add((result.finished_ns - began) / 1e6)
        if result.identified.tracked.observed.carried:
            self.carried += 1
        else:
            self._count(stamps.infer_started_ns)

    def _count(self, started_ns: int) -> None:
        # The frames of a batch come one after the other, and no two batches begin in the same nanosecond.
        if started_ns != self._batch_of_ns:
            self._batch_of_ns, self._batch_size = started_ns, 0
        self._batches[self._batch_size] -= 1
        self._batch_size += 1
        self._batches[self._batch_size] += 1

    def summary(self) -> dict[str, dict[str, float]]:
        """Milliseconds by step: wait for a batch, letterbox, wait for the engine, engine, all after it, and the sum."""
        return {name: histogram.summary() for name, histogram in self._steps.items()}

    def batches(self) -> dict[int, int]:
        """How many batches of each size the frames came in."""
        return {size: count for size, count in sorted(self._batches.items()) if size and count}
