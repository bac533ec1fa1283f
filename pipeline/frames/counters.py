"""The books of a run: captured = published + sum(dropped by cause) + in flight; and where the time went."""

import threading
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.frames.types import StreamStatus

SETTLE_S: Final = 60.0
SETTLE_LOOK_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class FrameCounts:
    """One stream's frames so far."""

    captured: int
    published: int
    dropped: dict[str, int]  # by cause: stale, crash, shutdown

    @property
    def in_flight(self) -> int:
        """Frames between capture and message right now; 0 after a run, or there is a bug."""
        return self.captured - self.published - sum(self.dropped.values())


@dataclass(frozen=True, slots=True)
class StreamState:
    """What happened to a stream last, and how often it came back."""

    state: StreamStatus | None = None  # None: nothing was told of it yet
    reconnects: int = 0  # how often it came up after it was down

    def told(self, state: StreamStatus) -> "StreamState":
        """The state after one more report."""
        return StreamState(state, self.reconnects + (self.state == "down" and state == "up"))


class CountsReader(Protocol):
    """Where the books of a run can be read."""

    def of(self, stream: str) -> FrameCounts:
        """The books of one stream."""
        ...


def await_last_frame(counters: CountsReader, stream: str) -> None:
    """Until no frame of a stream is in flight; a minute at most, in case there is a bug."""
    end = time.monotonic() + SETTLE_S
    while counters.of(stream).in_flight and time.monotonic() < end:
        time.sleep(SETTLE_LOOK_S)


class FrameCounters:
    """The books of all streams of a run in one process. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._captured, self._published = Counter[str](), Counter[str]()
        self._dropped: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._states: defaultdict[str, StreamState] = defaultdict(StreamState)

    def count_on(self, stream: str, counts: FrameCounts) -> None:
        """Take over the books of a stream of which nothing is in flight."""
        with self._lock:
            self._captured[stream], self._published[stream] = counts.captured, counts.published
            self._dropped[stream] = Counter(counts.dropped)

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

    def of(self, stream: str) -> FrameCounts:
        """The books of one stream."""
        with self._lock:
            return FrameCounts(self._captured[stream], self._published[stream], dict(self._dropped[stream]))

    def told(self, stream: str, state: StreamStatus) -> None:
        """What happened to a stream was published."""
        with self._lock:
            self._states[stream] = self._states[stream].told(state)

    def state(self, stream: str) -> StreamState:
        """What happened to a stream last."""
        with self._lock:
            return self._states[stream]
