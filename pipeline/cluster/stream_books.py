"""What subscribers were told of each stream of a run on several nodes: its books, and what began and has not ended.

A shard counts by itself; what it counted goes with it when its node dies. Here is what is known without it.
"""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from typing import Final, Literal, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from msgspec import structs

from engines.arrays import Float
from pipeline.frames.counters import FrameCounts
from pipeline.frames.events import Cause
from pipeline.frames.types import Health, StreamStatus
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.runtime.resuming import Resumed
from pipeline.settings.schema import StreamSettings
from pipeline.wire.build import health_message
from pipeline.wire.messages import EventMessage, FaceMessage, FrameMessage, HealthMessage, Message, ObjectMessage

LOST: Final = "lost"  # cause of frames whose messages did not arrive from a shard


class _Seen(NamedTuple):
    """Tracks, as the log of open events notes them."""

    ids: npt.NDArray[np.int64]
    boxes: Float


class _StreamBook:
    """Of one stream: the greatest that was heard of each count. What was published is what arrived."""

    def __init__(self) -> None:
        self.captured = self.published = self.base = 0
        self.dropped: Counter[str] = Counter()
        self.state: StreamStatus | None = None

    def know(self, captured: int, dropped: dict[str, int]) -> None:
        self.captured = max(self.captured, captured)
        self.dropped |= Counter(dropped)  # the greater one of each cause

    def settle(self, cause: str) -> None:
        """Count what is neither published nor dropped as dropped."""
        self.captured = max(self.captured, self.published + self.dropped.total())
        if left := self.captured - self.published - self.dropped.total():
            self.dropped[cause] += left

    @property
    def counts(self) -> FrameCounts:
        return FrameCounts(self.captured, self.published, dict(self.dropped))


class StreamBooks:
    """The books and the open events of all streams of a run, as its subscribers know them. For one thread.

    Args:
        names: of the streams.
        send: publishes a message.
        begun: is told of each stream that begins anew.
        spare: how many streams may be added.

    Raises:
        ConfigError: there is too little memory.
    """

    def __init__(
        self,
        names: Collection[str],
        send: Callable[[Message], None],
        begun: Callable[[StreamSettings], None],
        spare: int = 0,
    ) -> None:
        self._send, self._begun = send, begun
        self._books = {name: _StreamBook() for name in names}
        self._open = OpenEventLog.create(tuple(names), spare)

    def begin(self, settings: StreamSettings) -> None:
        """Let a stream begin anew, which may be one more: its books count on, its lines from 0, its source begins.

        Raises:
            ConfigError: there is no room for one more.
        """
        stream = settings.name
        self._open.begin(stream)
        self._open.forget(stream)
        books = self._books.setdefault(stream, _StreamBook())
        books.base, books.state = books.captured, None
        self._begun(settings)

    def take(self, message: Message) -> None:
        """Publish a message of a shard, and note what it says."""
        if isinstance(message, FrameMessage):
            self._frame(message)
        elif isinstance(message, EventMessage):
            self._open.announcing((message,))
            self._send(message)
            self._open.announced((message,))
        else:
            self._health(message)

    def _frame(self, message: FrameMessage) -> None:
        books = self._books[message.stream]
        books.published += 1
        books.know(message.seq + 1, message.dropped)
        at_ns = round(datetime.fromisoformat(message.captured_at).timestamp() * 1000) * 1_000_000
        self._open.reached(message.stream, message.seq, at_ns, _seen(message.objects), _seen(message.faces))
        self._send(message)

    def _health(self, message: HealthMessage) -> None:
        books = self._books[message.stream]
        books.know(message.captured, message.dropped)
        if message.state != "up":  # all of it has ended in the shard; what is left here ended in a message that is lost
            self._end_open(message.stream, "down" if message.state == "down" else "stopped")
        if message.state == "ended":
            books.settle(LOST)
        if message.state == "ended" and books.published != message.published:
            message = structs.replace(message, published=books.published, dropped=dict(books.dropped))
        books.state = message.state
        self._send(message)

    def know(self, stream: str, counts: FrameCounts) -> None:
        """Note what a shard counted so far; its messages may be on their way."""
        self._books[stream].know(counts.captured, counts.dropped)

    def move(self, message: HealthMessage, cause: str) -> None:
        """Take the last word of a shard on a stream that goes on elsewhere: it is down until then."""
        self.know(message.stream, FrameCounts(message.captured, message.published, message.dropped))
        self._close(message.stream, "down", cause, LOST, "down")

    def lose(self, streams: Iterable[str], cause: str) -> None:
        """Their shard is lost: end what is open, count its frames as ``crash``, and tell that they are down."""
        for stream in streams:
            self._close(stream, "down", cause, "crash", "crash")

    def end(self, streams: Iterable[str], cause: str, frames: Literal["lost", "shutdown"]) -> None:
        """Say the last word on streams whose shard did not, and count their frames that are left."""
        for stream in streams:
            self._close(stream, "ended", cause, frames, "stopped")

    def _close(self, stream: str, state: Literal["down", "ended"], cause: str, frames: str, events: Cause) -> None:
        self._end_open(stream, events)
        books = self._books[stream]
        books.settle(frames)
        books.state = state
        self._send(health_message(Health(stream, state, cause, time.time_ns()), books.counts))

    def _end_open(self, stream: str, cause: Cause) -> None:
        for event in self._open.left_of(stream, cause):
            self._send(event)
        self._open.clear_of(stream)

    def is_over(self, stream: str) -> bool:
        """Return whether a stream has ended."""
        return self._books[stream].state == "ended"

    def resumed(self, stream: str, restarts: int) -> Resumed:
        """Return where a stream goes on."""
        books = self._books[stream]
        return Resumed(books.counts, books.base, self._open.line_counts(stream), restarts)

    @property
    def counts(self) -> dict[str, FrameCounts]:
        """The books of all streams so far."""
        return {name: books.counts for name, books in self._books.items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()


def _seen(tracks: tuple[ObjectMessage, ...] | tuple[FaceMessage, ...]) -> _Seen:
    ids = np.array([each.track for each in tracks], np.int64)
    return _Seen(ids, np.array([each.box for each in tracks], np.float32).reshape(-1, 4))
