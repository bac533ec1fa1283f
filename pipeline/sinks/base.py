"""What a sink is, and what each has: a bounded queue and a thread of its own, so that none holds up a frame or another.

A package brings a sink with one class and one line of metadata: docs/extending.md.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, runtime_checkable

import msgspec
import structlog

from engines.errors import kind_and_line
from pipeline.settings.schema import Config, StreamSettings, Switch
from pipeline.sinks.books import Lost, SinkBook
from pipeline.wire.messages import Message

GROUP: Final = "trunkline.sinks"  # the entry points
CLOSE_S: Final = 3.0  # that sinks have to send what waits when a run is over, all of them together

log = structlog.get_logger()


class Sink(Protocol):
    """Where messages go; all that it does is done in its own thread, and may take its time or raise."""

    def send(self, message: Message) -> None:
        """Take one message: a finished frame, an event or what happened to a stream, in the order of the run."""
        ...

    def close(self) -> None:
        """No message comes any more."""
        ...


class SinkClass(Protocol):
    """What an entry point names: a class of sinks, made before anything runs."""

    Settings: type[msgspec.Struct]  # the keys of its ``[[sinks]]`` table

    def __call__(self, settings: Any) -> Sink:
        """Open a sink; ConfigError where its settings cannot be used."""
        ...


@runtime_checkable
class Looking(Protocol):
    """A sink that has to do something now and then though no message comes."""

    look_s: float  # after so long at the most

    def look(self) -> None:
        """Do it."""
        ...


@runtime_checkable
class ReadsPackets(Protocol):
    """A sink that reads packets of the streams, too."""

    def read_packets(self, address: str) -> None:
        """Begin to, at the address of a :class:`pipeline.wire.packet_sockets.PacketHub`; called before any message."""
        ...


@runtime_checkable
class Later(Protocol):
    """A sink that takes messages which it sends later, and may lose in the meantime."""

    @property
    def lost(self) -> Mapping[str, int]:
        """How many of those that it took are lost, by cause; any thread may ask."""
        ...


class StreamSwitches(Protocol):
    """What a sink may change of the run whose messages it has."""

    def switch(self, stream: str, what: Switch, on: bool) -> None:
        """Switch something on or off, which takes seconds perhaps; any thread may ask.

        Raises:
            TrunklineError: that cannot be done.
        """
        ...

    def is_on(self, stream: str, what: Switch) -> bool:
        """Whether it is switched on, whoever switched it; never waits."""
        ...


@runtime_checkable
class Attached(Protocol):
    """A sink that has to know the run whose messages it has, or to change it."""

    def attach(self, config: Config, switches: StreamSwitches) -> None:
        """Called once, before the first message."""
        ...


@runtime_checkable
class Follows(Protocol):
    """A sink that has to know the streams which are added to the run, and those that are changed."""

    def begin(self, stream: StreamSettings) -> None:
        """Called before the first message of a stream that was added or goes on by other settings."""
        ...


@dataclass(frozen=True, slots=True)
class SinkCounts:
    """What became of the messages of a run."""

    sent: int
    lost: dict[str, int]  # by cause, see Lost
    waiting: int = 0  # in its queue now


class Counted(Protocol):
    """What counts what becomes of the things it is given, each of which a :class:`Lost` may befall."""

    @property
    def counts(self) -> SinkCounts: ...


class SinkThread:
    """A sink behind its queue, in its thread. Any thread may send, and never waits.

    Args:
        name: of the sink, in logs, messages and the summary.
        sink: closed in the thread, once all that waits is sent.
        room: messages that may wait; what finds no room is lost to this sink alone, and counted.
        book: where what becomes of them is counted; None: in one of its own.
    """

    def __init__(self, name: str, sink: Sink, room: int, book: SinkBook | None = None) -> None:
        self.name, self._sink, self._room = name, sink, room
        self._waiting: deque[Message | StreamSettings] = deque()
        self._in_hand: deque[Message | StreamSettings] = deque()  # taken out by the thread together, and not sent yet
        self._changed = threading.Condition()  # of all here
        self._over = self._ended = False
        self._book = SinkBook() if book is None else book
        if self._book.died:
            log.warning("sink lost messages with a process that died", sink=name, messages_lost=self._book.died)
        self._loses = self._fails = False  # whether that was logged, and goes on
        self._thread = threading.Thread(target=self._run, name=f"sink {name}", daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        """Let a message wait for the sink, or lose it."""
        with self._changed:
            self._book.give()
            if self._ended:
                self._book.lose("shutdown" if self._over else "dead")
                return
            waiting, lost = len(self._waiting) + len(self._in_hand), self._book.lost["full"]
            taken, before = waiting < self._room, self._loses
            if taken:
                self._waiting.append(message)
                self._changed.notify_all()
                self._loses = before and 2 * waiting > self._room
            else:
                self._book.lose("full")
                self._loses = True
            changed = self._loses != before
        if changed and taken:
            log.info("sink takes messages again", sink=self.name, messages_lost=lost)
        elif changed:
            log.warning("sink loses messages", sink=self.name, cause="it is slower than they come", waiting=self._room)

    def begin(self, stream: StreamSettings) -> None:
        """Let the sink know of a stream that was added or changed, if it wants to, after the messages that wait."""
        if isinstance(self._sink, Follows):
            with self._changed:
                self._waiting.append(stream)
                self._changed.notify_all()

    @property
    def counts(self) -> SinkCounts:
        """So far."""
        later = Counter(self._sink.lost if isinstance(self._sink, Later) else {})
        with self._changed:
            lost = {cause: count for cause, count in (self._book.lost + later).items() if count}
            return SinkCounts(max(0, self._book.sent - later.total()), lost, self._book.waiting)

    def attach(self, config: Config, switches: StreamSwitches) -> None:
        """Let the sink know the run, if it wants to."""
        if isinstance(self._sink, Attached):
            self._sink.attach(config, switches)

    def finish(self) -> None:
        """No message comes any more; those that wait are still sent."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def join(self, until_s: float) -> bool:
        """Wait until the sink is closed, until ``time.monotonic()`` is ``until_s``; False: it is left behind."""
        self._thread.join(max(0.0, until_s - time.monotonic()))
        if not self._thread.is_alive():
            return True
        if lost := self._give_up("shutdown"):
            log.warning("sink is not done and is left behind", sink=self.name, messages_lost=lost)
        return False

    def _run(self) -> None:
        look = self._sink if isinstance(self._sink, Looking) else None
        try:
            while self._take(None if look is None else look.look_s):
                if look is not None:
                    look.look()
                while self._in_hand and not self._ended:
                    self._pass_on(self._in_hand[0])
        except Exception as error:  # looking failed: the sink is of no use any more
            log.error("sink failed", sink=self.name, cause=kind_and_line(error), exc_info=True)
        finally:
            if lost := self._give_up("shutdown" if self._over else "dead"):
                log.error("sink is dead", sink=self.name, messages_lost=lost)
            self._close()

    def _take(self, patience_s: float | None) -> bool:
        """Take all that waits in hand, once there is something; False: nothing more comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._over or self._ended, patience_s)
            self._in_hand.extend(self._waiting)
            self._waiting.clear()
            return not self._ended and (bool(self._in_hand) or not self._over)

    def _pass_on(self, item: Message | StreamSettings) -> None:
        failure = None
        try:
            if not isinstance(item, StreamSettings):
                self._sink.send(item)
            elif isinstance(self._sink, Follows):
                self._sink.begin(item)
        except Exception as error:  # whatever a sink does, the run and the other sinks go on
            failure = error
        with self._changed:
            if self._ended:
                return  # it was counted when the thread was left behind
            self._in_hand.popleft()
            if isinstance(item, StreamSettings):
                pass  # no message: it is in no book
            elif failure is None:
                self._book.note_sent()
            else:
                self._book.lose("failed")
        if failure is not None and not self._fails:
            log.error("sink failed", sink=self.name, cause=kind_and_line(failure), exc_info=failure)
        elif failure is None and self._fails:
            log.info("sink sends again", sink=self.name, messages_lost=self._book.lost["failed"])
        self._fails = failure is not None

    def _give_up(self, cause: Lost) -> int:
        """Take nothing more; how many messages are lost by that."""
        with self._changed:
            left = () if self._ended else (*self._waiting, *self._in_hand)
            lost = sum(not isinstance(item, StreamSettings) for item in left)
            self._ended = True
            if lost:
                self._book.lose(cause, lost)
            self._waiting.clear()
            self._changed.notify_all()
            return lost

    def _close(self) -> None:
        try:
            self._sink.close()
        except Exception as error:  # its last word is no reason to end the run otherwise
            log.error("sink cannot be closed", sink=self.name, cause=kind_and_line(error), exc_info=True)
