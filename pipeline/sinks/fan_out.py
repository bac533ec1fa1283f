"""The sinks of a run, which each message goes to."""

import time
from collections.abc import Callable
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

from engines.errors import ConfigError
from pipeline.settings.entry_points import load_from
from pipeline.settings.schema import Config, SinkSettings, StreamSettings
from pipeline.sinks.base import (
    CLOSE_S,
    GROUP,
    Counted,
    ReadsPackets,
    SinkClass,
    SinkCounts,
    SinkThread,
    StreamSwitches,
)
from pipeline.sinks.books import SinkBook
from pipeline.sinks.zmq import Publisher
from pipeline.wire.messages import HealthMessage, Message


class Sinks:
    """The results socket and the ``[[sinks]]`` of a run. Any thread may send, and never waits.

    Args:
        config: of the run.
        packets: where packets of the streams are read; None: nowhere.
        rows: int64 (count_of(config), books.WORDS), where messages are counted; None: in memory of its own.

    Raises:
        ConfigError: one of them cannot be opened.
    """

    def __init__(self, config: Config, packets: str | None = None, rows: npt.NDArray[np.int64] | None = None) -> None:
        self._config = config
        books = [SinkBook(None if rows is None else rows[number]) for number in range(count_of(config))]
        self.publisher = Publisher(config.publish, book=books[0])
        self.record_book = books[-1]
        self._threads = [self.publisher.thread]
        self._others: dict[str, Counted] = {}
        try:
            for settings, book in zip(config.sinks, books[1:-1], strict=True):
                self._threads.append(_opened(settings, packets, book))
        except BaseException:
            self.close()
            raise

    @property
    def address(self) -> str:
        """Where the results socket listens."""
        return self.publisher.address

    def attach(self, switches: StreamSwitches) -> None:
        """Let sinks know the run before its first message, and what they may change of it."""
        for thread in self._threads:
            thread.attach(self._config, switches)

    def begin(self, stream: StreamSettings) -> None:
        """Let sinks know of a stream that was added or goes on by other settings, before its first message."""
        for thread in self._threads:
            thread.begin(stream)

    def await_subscriber(self, patience_s: float, stopped: Callable[[], bool]) -> bool:
        """Wait until somebody subscribed; see :meth:`pipeline.sinks.zmq.Publisher.await_subscriber`."""
        return self.publisher.await_subscriber(patience_s, stopped)

    def send(self, message: Message) -> None:
        """Let each sink have a message; what happened to a stream goes with what sinks have lost so far."""
        if isinstance(message, HealthMessage):
            lost = {name: counts.lost for name, counts in self.counts.items() if counts.lost}
            message = msgspec.structs.replace(message, sinks=lost)
        for thread in self._threads:
            thread.send(message)

    @property
    def counts(self) -> dict[str, SinkCounts]:
        """What became of the messages so far, of each sink; of a recording, its frames."""
        threads = {thread.name: thread.counts for thread in self._threads}
        return threads | {name: other.counts for name, other in self._others.items()}

    def count(self, name: str, other: Counted) -> None:
        """Tell what became of the frames of a sink that takes pictures in place of messages, too."""
        self._others[name] = other

    def close(self) -> None:
        """Let sinks send what waits, for CLOSE_S at the most, and close them; may be called twice."""
        until_s = time.monotonic() + CLOSE_S
        for thread in self._threads:
            thread.finish()
        for thread in self._threads:
            thread.join(until_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def count_of(config: Config) -> int:
    """Return how many sinks a run has: the results socket, its ``[[sinks]]`` and the recording."""
    return 2 + len(config.sinks)


def _opened(settings: SinkSettings, packets: str | None, book: SinkBook) -> SinkThread:
    kind: SinkClass = load_from(GROUP, settings.kind)
    try:
        sink = kind(settings.options)
    except ConfigError as error:
        raise ConfigError(f"sink {settings.shown_name!r}: {error}") from None
    if packets is not None and isinstance(sink, ReadsPackets):
        sink.read_packets(packets)
    return SinkThread(settings.shown_name, sink, settings.queue, book)
