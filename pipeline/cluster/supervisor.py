"""Keeps the shards of a run on several nodes running: what is lost is placed elsewhere, and subscribers are told truly.

It knows no Ray: shards are placed by what is passed in, and can be made up in tests.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from engines.errors import StageError, TrunklineError
from pipeline.cluster.shard import OpenedShard, ShardReport
from pipeline.cluster.stream_books import StreamBooks
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.summary import FileEnd, Summary
from pipeline.runtime.supervision import MAX_CRASHES, CrashLimit, source_patience_s
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.base import SinkCounts
from pipeline.wire.messages import HealthMessage, Message

LOOK_S: Final = 0.02  # that messages are waited for, between two looks at the shards
LAST_WORDS_S: Final = 2.0  # that messages of a shard whose run is over may be on their way
END_S: Final = 15.0  # that a shard has to end once it is stopped, besides what its sources need
ROOM_S: Final = 10.0  # after which it is told that a shard was not placed
UNREACHABLE_S: Final = 1.0  # after which a shard is lost whose address refuses connections
AVOIDED_S: Final = 60.0  # that a silent node gets no shard: Ray takes a quarter of a minute to call it dead

log = structlog.get_logger()


class ShardLost(Exception):
    """A shard is gone, with its process or its node; says why in one clause."""


class PlacedShard(Protocol):
    """A shard that was given to the cluster. No call waits.

    Attributes:
        unreachable: nobody was at its address when it was asked last.
    """

    unreachable: bool

    def opened(self) -> OpenedShard | None:
        """Return what it says once it is open; None before.

        Raises:
            ShardLost: it is gone.
            TrunklineError: it cannot run.
        """
        ...

    def report(self) -> ShardReport | None:
        """Return what it answered since this was asked last, if anything; raises as :meth:`opened`."""
        ...

    def stop(self) -> None:
        """Let it end by itself."""
        ...

    def kill(self) -> None:
        """End it, wherever it is; it may be gone."""
        ...


class Inbox(Protocol):
    """The messages of all shards."""

    def connect(self, shard: int, opened: OpenedShard) -> None:
        """Hear of a shard, in place of what was heard by its number before."""
        ...

    def disconnect(self, shard: int) -> None:
        """Hear of a shard no longer."""
        ...

    def receive(self, timeout_s: float) -> Iterable[tuple[int, Message]]:
        """Wait for messages, and return those that are there, each with its shard."""
        ...


class Place(Protocol):
    """Gives a shard to the cluster."""

    def __call__(
        self, streams: tuple[StreamSettings, ...], resumed: Resumed, avoided: Collection[str]
    ) -> PlacedShard: ...


@dataclass(slots=True)
class _SupervisedShard:
    """One shard, over all the actors that it was."""

    streams: tuple[StreamSettings, ...]
    placed: PlacedShard
    since_s: float
    opened: OpenedShard | None = None
    heard_s: float = 0.0
    summary: Summary | None = None
    over_s: float = 0.0  # since when its run is over
    restarts: int = 0
    told: bool = False  # that it waits for room
    done: bool = False
    crashes: CrashLimit = field(default_factory=CrashLimit)

    @property
    def names(self) -> list[str]:
        return [stream.name for stream in self.streams]


class ShardSupervisor:
    """The shards of one run. For one thread.

    Args:
        config: of the whole run.
        shards: the streams of each.
        place: gives a shard to the cluster.
        inbox: their messages.
        books: publishes them.
        stop: ends the run.
        clock: in seconds; never set back.
    """

    def __init__(
        self,
        config: Config,
        shards: Collection[tuple[StreamSettings, ...]],
        place: Place,
        inbox: Inbox,
        books: StreamBooks,
        stop: threading.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._place, self._inbox, self._books = config, place, inbox, books
        self._stop, self._clock = stop, clock
        self._silent: dict[str, float] = {}  # since when, by node: those whose shards were not heard of any more
        self._ends: dict[str, FileEnd] = {}
        self._stopped_s: float | None = None
        self._began_s = clock()
        self._runs = [_SupervisedShard(streams, place(streams, Resumed(), ()), clock()) for streams in shards]

    def open(self) -> bool:
        """Wait until all shards are open; False where the run was stopped meanwhile.

        Raises:
            TrunklineError: one of them cannot run.
        """
        while not self._stop.is_set():
            for run in self._runs:
                self._look_for_opened(run, first=True)
            if all(run.opened for run in self._runs):
                return True
            time.sleep(LOOK_S)
        return False

    def run(self) -> None:
        """Publish what the shards say until all streams have ended or the run was stopped.

        Raises:
            StageError: a shard was lost too often.
        """
        self._began_s = self._clock()
        for number, run in enumerate(self._runs):
            assert run.opened is not None
            self._begin(number, run, run.opened)
        while not all(run.done for run in self._runs):
            for number, message in self._inbox.receive(LOOK_S):
                self._take(self._runs[number], message)
            for number, run in enumerate(self._runs):
                if not run.done:
                    self._look(number, run)
            if self._stop.is_set():
                self._end()

    def close(self) -> None:
        """End all shards; what is left of their streams is counted as ``shutdown``."""
        for number, run in enumerate(self._runs):
            run.placed.kill()
            self._inbox.disconnect(number)
            if not run.done:
                self._finish(run, "shutdown")

    def _take(self, run: _SupervisedShard, message: Message) -> None:
        if run.done:
            return
        run.heard_s = self._clock()
        self._books.take(message)
        if isinstance(message, HealthMessage) and message.read is not None:
            self._ends[message.stream] = FileEnd(message.read, message.cause)

    def _look_for_opened(self, run: _SupervisedShard, first: bool) -> None:
        if run.opened is not None:
            return
        try:
            run.opened = run.placed.opened()
        except ShardLost as lost:
            if first:
                raise StageError(f"a shard was lost before it was open: {lost}") from lost
            raise
        if run.opened is None and not run.told and self._clock() - run.since_s > ROOM_S:
            run.told = True
            log.warning("streams wait for a node that has room", streams=run.names)

    def _begin(self, number: int, run: _SupervisedShard, opened: OpenedShard) -> None:
        self._inbox.connect(number, opened)
        run.heard_s = self._clock()
        self._silent.pop(opened.node, None)
        log.info("shard placed", node=opened.node, streams=run.names)

    def _look(self, number: int, run: _SupervisedShard) -> None:
        try:
            if run.opened is None:
                self._look_for_opened(run, first=False)
                if run.opened is None:
                    return
                self._begin(number, run, run.opened)
            if run.summary is None:
                self._hear(run)
        except ShardLost as lost:
            self._lose(number, run, str(lost))
        except TrunklineError as error:
            self._lose(number, run, f"its run failed: {error}")
        else:
            self._settle(number, run)

    def _hear(self, run: _SupervisedShard) -> None:
        report, now_s = run.placed.report(), self._clock()
        if report is None:
            silent_s, timeout_s = now_s - run.heard_s, self._config.ray.timeout_s
            if silent_s > (min(UNREACHABLE_S, timeout_s) if run.placed.unreachable else timeout_s):
                assert run.opened is not None
                self._silent[run.opened.node] = now_s
                raise ShardLost(f"its node was not heard of for {silent_s:.1f} s")
            return
        run.heard_s = now_s
        if report.summary is not None:
            run.summary, run.over_s = report.summary, now_s
        for name, counts in report.counts.items():
            self._books.know(name, counts)

    def _settle(self, number: int, run: _SupervisedShard) -> None:
        """A shard's run is over: it is done once its last words were heard."""
        if run.summary is None:
            return
        heard = all(map(self._books.is_over, run.names))
        if heard or self._clock() - run.over_s > LAST_WORDS_S:
            self._inbox.disconnect(number)
            self._finish(run, "lost")
            run.placed.kill()

    def _finish(self, run: _SupervisedShard, frames: str) -> None:
        run.done = True
        left = [name for name in run.names if not self._books.is_over(name)]
        self._books.end(left, "the run was stopped", "lost" if frames == "lost" else "shutdown")

    def _lose(self, number: int, run: _SupervisedShard, cause: str) -> None:
        """Tell that a shard is lost, and place what it has not ended elsewhere."""
        self._inbox.disconnect(number)
        run.placed.kill()  # it may live and be cut off: nothing it says counts any more
        left = tuple(stream for stream in run.streams if not self._books.is_over(stream.name))
        names = [stream.name for stream in left]
        log.error("shard lost", streams=names, cause=cause)
        if run.opened is not None:  # else that it is gone was told before
            self._books.lose(names, f"its shard was lost: {cause}")
        if not left or self._stop.is_set():
            run.streams = left
            self._finish(run, "shutdown")
            return
        if not run.crashes.allows(self._clock()):
            raise StageError(f"streams {', '.join(names)} were lost more than {MAX_CRASHES} times in a minute: {cause}")
        run.streams, run.restarts = left, run.restarts + 1
        resumed = self._books.resumed(names, run.restarts)
        run.opened, run.since_s, run.told = None, self._clock(), False
        now_s = self._clock()
        avoided = {node for node, since_s in self._silent.items() if now_s - since_s < AVOIDED_S}
        run.placed = self._place(left, resumed, avoided)

    def _end(self) -> None:
        """The run was stopped: shards finish their frames, unless that takes too long."""
        if self._stopped_s is None:
            self._stopped_s = self._clock()
            for run in self._runs:
                if not run.done:
                    run.placed.stop()
        for number, run in enumerate(self._runs):
            unopened = run.opened is None  # nothing of it is under way
            patience_s = 0.0 if unopened else END_S + source_patience_s(run.streams)
            if not run.done and self._clock() - self._stopped_s > patience_s:
                self._inbox.disconnect(number)
                run.placed.kill()
                self._finish(run, "shutdown")

    def summary(self, sinks: dict[str, SinkCounts]) -> Summary:
        """Return the books of the whole run; what only a lost shard counted, such as its batches, is missing."""
        ended = [run.summary for run in self._runs if run.summary is not None]
        batches = sum((Counter(each.batches) for each in ended), Counter[int]())
        return Summary(
            seconds=self._clock() - self._began_s,
            streams={stream.name: self._books.counts[stream.name] for stream in self._config.streams},
            batches=dict(sorted(batches.items())),
            skipped=sum(each.skipped for each in ended),
            backend=next((each.backend for each in ended), "unknown"),
            precision=next((each.precision for each in ended), "unknown"),
            face_runs=sum(each.face_runs for each in ended),
            face_crops=sum(each.face_crops for each in ended),
            ends=dict(self._ends),
            sinks=sinks,
        )
