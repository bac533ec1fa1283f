"""Keeps the shards of a run on several nodes running: what is lost is placed elsewhere, and subscribers are told truly.

It knows no Ray: shards are placed by what is passed in, and can be made up in tests.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import structlog
from msgspec import structs

from engines.errors import ConfigError, StageError, TrunklineError
from pipeline.cluster.placement import NodeResources, ShardLoad, next_move
from pipeline.cluster.shard import OpenedShard, ShardReport
from pipeline.cluster.stream_books import StreamBooks
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.streams import REMOVED_CAUSE
from pipeline.runtime.summary import FileEnd, Summary
from pipeline.runtime.supervision import MAX_CRASHES, CrashLimit, source_patience_s
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.base import SinkCounts
from pipeline.wire.messages import EventMessage, HealthMessage, Message

LOOK_S: Final = 0.02  # that messages are waited for, between two looks at the shards
LAST_WORDS_S: Final = 2.0  # that messages of a shard whose run is over may be on their way
END_S: Final = 15.0  # that a shard has to end once it is stopped, besides what its sources need
ROOM_S: Final = 10.0  # after which it is told that a shard was not placed
UNREACHABLE_S: Final = 1.0  # after which a shard is lost whose address refuses connections
AVOIDED_S: Final = 60.0  # that a silent node gets no shard: Ray takes a quarter of a minute to call it dead
NODES_S: Final = 2.0  # between two looks whether a node has come

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

    def add(self, settings: StreamSettings, resumed: Resumed) -> None:
        """Let a stream go on there; what it answers says where that cannot be."""
        ...

    def remove(self, name: str) -> None:
        """Let go of a stream, whose end it tells after its last frame."""
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
    """Gives a shard to the cluster, on a node that is none of those ``avoided``, if it can be.

    Its streams, which are alike in ``node``, say what it must be able to have; it is given each once it is open.
    """

    def __call__(self, streams: tuple[StreamSettings, ...], avoided: Collection[str]) -> PlacedShard: ...


@dataclass(slots=True)
class _SupervisedShard:
    """One shard, over all the actors that it was. Each stream of the run is in one of them."""

    group: str | None  # ``node`` of its streams
    streams: tuple[StreamSettings, ...]
    placed: PlacedShard
    since_s: float
    wanted_node: str | None = None  # where it is to be, until it is open
    opened: OpenedShard | None = None
    heard_s: float = 0.0
    summary: Summary | None = None
    over_s: float = 0.0  # since when its run is over
    stopped: bool = False  # it has no stream any more
    told: bool = False  # that it waits for room
    done: bool = False
    crashes: CrashLimit = field(default_factory=CrashLimit)

    @property
    def names(self) -> list[str]:
        return [stream.name for stream in self.streams]

    @property
    def node(self) -> str:
        return self.wanted_node or "" if self.opened is None else self.opened.node


@dataclass(frozen=True, slots=True)
class _Move:
    """A stream that is to leave its shard once both it and the other are open."""

    settings: StreamSettings  # that it goes on by
    source: _SupervisedShard
    target: _SupervisedShard | None  # None: it is removed
    anew: bool = False  # its settings are others
    asked: bool = False  # its shard was asked to let go of it


class ShardSupervisor:
    """The shards of one run. For one thread.

    Args:
        config: of the whole run.
        shards: the streams of each.
        place: gives a shard to the cluster.
        inbox: their messages.
        books: publishes them.
        stop: ends the run.
        nodes: tells which there are; streams are spread anew when one comes.
        clock: in seconds; never set back.

    :meth:`call` is for any thread.
    """

    def __init__(
        self,
        config: Config,
        shards: Collection[tuple[StreamSettings, ...]],
        place: Place,
        inbox: Inbox,
        books: StreamBooks,
        stop: threading.Event,
        nodes: Callable[[], Collection[NodeResources]] = tuple,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config, self._place, self._inbox, self._books = config, place, inbox, books
        self._stop, self._nodes, self._clock = stop, nodes, clock
        self._silent: dict[str, float] = {}  # since when, by node: those whose shards were not heard of any more
        self._ends: dict[str, FileEnd] = {}
        self._stopped_s: float | None = None
        self._began_s = clock()
        self._restarts = 0  # how often streams went on elsewhere
        self._known: set[str] = set()  # the nodes at the last look ...
        self._looked_s = -NODES_S  # ... and when that was
        self._moves: dict[str, _Move] = {}  # by stream
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        self._ordered = [stream.name for stream in config.streams]  # of all that there ever were
        self._runs = list[_SupervisedShard]()
        for streams in shards:
            self._new_shard(streams, ())

    def _new_shard(self, streams: tuple[StreamSettings, ...], avoided: Collection[str]) -> _SupervisedShard:
        placed = self._place(streams, avoided)
        self._runs.append(_SupervisedShard(streams[0].node, streams, placed, self._clock()))
        return self._runs[-1]

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
        while not all(run.done for run in self._runs) or not (self.streams() or self._stop.is_set()):
            for number, message in self._inbox.receive(LOOK_S):
                self._take(self._runs[number], message)
            for number, run in enumerate(self._runs):
                if not run.done:
                    self._look(number, run)
            if self._stop.is_set():
                self._end()
            else:
                self._change()

    def call(self, change: Callable[[], None]) -> None:
        """Have the thread of the run call something, wait until it has, and raise what that raises."""
        done = Future[None]()
        self._calls.put((change, done))
        try:
            done.result(END_S)
        except TimeoutError:
            raise ConfigError("streams cannot be changed: the run is over") from None

    def _change(self) -> None:
        """Carry out what others ask for, look for nodes that have come, and go on with moves."""
        while not self._calls.empty():
            change, done = self._calls.get()
            try:
                change()
                done.set_result(None)
            except Exception as error:  # whoever called has it
                done.set_exception(error)
        if self._clock() - self._looked_s >= NODES_S:
            self._looked_s, before = self._clock(), self._known
            self._known = {node.id for node in self._there()}
            if before and self._known - before:
                self.spread()
        for name, move in tuple(self._moves.items()):
            open_ = move.source.opened and (move.target is None or move.target.opened)
            if open_ and not move.asked:
                move.source.placed.remove(name)
                self._moves[name] = replace(move, asked=True)

    # Streams are added, changed, removed and moved; for the thread of the run.

    def streams(self) -> tuple[StreamSettings, ...]:
        """Those that were not removed; any thread may ask."""
        return tuple(stream for run in tuple(self._runs) for stream in run.streams)

    def add(self, settings: StreamSettings) -> None:
        """Give a stream more to the shard of its kind that has room and least to do, or to a new one.

        Raises:
            ConfigError: there is one of this name, or no room for its books.
        """
        if settings.name in [stream.name for stream in self.streams()]:
            raise ConfigError(f"stream {settings.name!r} cannot be added: there is one of this name already")
        self._books.begin(settings.name)
        if settings.name not in self._ordered:
            self._ordered.append(settings.name)
        self._give(settings, self._shard_for(settings))

    def change(self, settings: StreamSettings) -> None:
        """Let a stream go on by other settings, as a new one."""
        source = self._shard_of(settings.name)
        target = source if source.group == settings.node and not source.done else self._shard_for(settings)
        move = _Move(settings, source, target, anew=True)
        if self._books.is_over(settings.name):
            self._arrive(move, target)
        else:
            self._moves[settings.name] = replace(move, asked=self._is_asked(settings.name))

    def remove(self, name: str) -> None:
        """Let a stream end."""
        source = self._shard_of(name)
        if self._books.is_over(name):
            source.streams = tuple(stream for stream in source.streams if stream.name != name)
        else:
            settings = next(stream for stream in source.streams if stream.name == name)
            self._moves[name] = _Move(settings, source, None, asked=self._is_asked(name))

    def spread(self) -> None:
        """Move streams from nodes and shards that have many to those that have few; soon, and one by one."""
        nodes = self._there()
        while (move := next_move(self._loads(), nodes, self._config.ray)) is not None:
            source = self._runs[move.source]
            leaving = [stream for stream in self._staying(source) if stream.name not in self._moves][-move.streams :]
            if not leaving:
                return  # they are on their way already
            if move.target is None:
                target = self._new_shard(tuple(leaving), {node.id for node in nodes} - {move.node})
                target.streams, target.wanted_node = (), move.node
            else:
                target = self._runs[move.target]
            log.info("streams move", streams=[stream.name for stream in leaving], node=move.node)
            self._moves |= {stream.name: _Move(stream, source, target) for stream in leaving}

    def _there(self) -> list[NodeResources]:
        avoided = self._avoided()
        return [node for node in self._nodes() if node.id not in avoided]

    def _avoided(self) -> set[str]:
        now_s = self._clock()
        return {node for node, since_s in self._silent.items() if now_s - since_s < AVOIDED_S}

    def _loads(self) -> list[ShardLoad]:
        """What each shard has once all moves are done."""
        return [
            ShardLoad(run.group, "" if run.done or run.stopped else run.node, len(self._staying(run)))
            for run in self._runs
        ]

    def _staying(self, run: _SupervisedShard) -> list[StreamSettings]:
        coming = [move.settings for move in self._moves.values() if move.target is run]
        gone = {*filter(self._books.is_over, run.names), *self._moves}
        return [stream for stream in run.streams if stream.name not in gone] + coming

    def _shard_of(self, name: str) -> _SupervisedShard:
        found = next((run for run in self._runs if name in run.names), None)
        if found is None:
            raise ConfigError(f"there is no stream {name!r}")
        return found

    def _is_asked(self, name: str) -> bool:
        return name in self._moves and self._moves[name].asked

    def _shard_for(self, settings: StreamSettings) -> _SupervisedShard:
        loads = self._loads()
        on = Counter[str]()
        for load in loads:
            on[load.node] += load.streams
        fitting = [
            number
            for number, (run, load) in enumerate(zip(self._runs, loads, strict=True))
            if not (run.done or run.stopped) and run.group == settings.node
            if load.streams < self._config.ray.streams_per_shard
        ]
        if fitting:
            return self._runs[min(fitting, key=lambda number: (on[loads[number].node], loads[number].streams))]
        shard = self._new_shard((settings,), self._avoided())
        shard.streams = ()
        return shard

    def _give(self, settings: StreamSettings, run: _SupervisedShard) -> None:
        """A stream that is nowhere is this shard's from now on."""
        run.streams += (settings,)
        if run.opened is not None:
            run.placed.add(settings, self._books.resumed(settings.name, self._restarts))

    def _arrive(self, move: _Move, target: _SupervisedShard) -> None:
        """Nobody has the stream any more: it goes on, unless the shard is gone meanwhile, which another is then."""
        name = move.settings.name
        move.source.streams = tuple(stream for stream in move.source.streams if stream.name != name)
        if move.anew:
            self._books.begin(name)
        self._restarts += 1
        self._give(move.settings, self._shard_for(move.settings) if target.done or target.stopped else target)

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
        if not self._leaves(run, message):
            self._books.take(self._as_moved(run, message))
        if isinstance(message, HealthMessage) and message.read is not None:
            self._ends[message.stream] = FileEnd(message.read, message.cause)

    def _as_moved(self, run: _SupervisedShard, message: Message) -> Message:
        """What ends since its stream leaves a shard has not ended with the stream, as the shard has it."""
        if isinstance(message, EventMessage) and message.cause == "stopped":
            move = self._moves.get(message.stream)
            if move is not None and move.source is run and move.asked and move.target is not None:
                return structs.replace(message, cause="down")
        return message

    def _leaves(self, run: _SupervisedShard, message: Message) -> bool:
        """Go on with a stream whose shard has let go of it; False: subscribers are to hear the message as it is."""
        if not isinstance(message, HealthMessage) or message.state != "ended" or self._stop.is_set():
            return False
        move = self._moves.get(message.stream)
        if move is None or move.source is not run:
            return False
        del self._moves[message.stream]
        if move.target is None:
            run.streams = tuple(stream for stream in run.streams if stream.name != message.stream)
        elif move.anew or message.cause == REMOVED_CAUSE:
            self._books.move(message, "changed" if move.anew else "moved to another shard")
            self._arrive(move, move.target)
            return True
        return False

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
        for stream in run.streams:
            run.placed.add(stream, self._books.resumed(stream.name, self._restarts))

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
        for name, cause in report.refused.items():
            if name in run.names and not self._books.is_over(name):
                log.error("stream cannot be captured", stream=name, cause=cause)
                self._books.end([name], cause, "lost")

    def _settle(self, number: int, run: _SupervisedShard) -> None:
        """Stop a shard that has nothing to do any more; it is done once its last words were heard."""
        heard = all(map(self._books.is_over, run.names))
        if run.summary is None:
            if heard and not run.stopped and not any(move.target is run for move in self._moves.values()):
                run.stopped = True
                run.placed.stop()
            return
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
        names = [name for name in run.names if not self._books.is_over(name)]
        log.error("shard lost", streams=names, cause=cause)
        if run.opened is not None:  # else that it is gone was told before
            self._books.lose(names, f"its shard was lost: {cause}")
        run.opened, run.wanted_node, run.since_s, run.told = None, None, self._clock(), False
        self._let_go(run)
        left = tuple(stream for stream in run.streams if not self._books.is_over(stream.name))
        if not left or self._stop.is_set():
            self._finish(run, "shutdown")
            return
        if not run.crashes.allows(self._clock()):
            lost = ", ".join(stream.name for stream in left)
            raise StageError(f"streams {lost} were lost more than {MAX_CRASHES} times in a minute: {cause}")
        self._restarts += 1
        run.placed = self._place(left, self._avoided())

    def _let_go(self, lost: _SupervisedShard) -> None:
        """Carry out the moves of streams that a lost shard had, and give up those to it that were not begun."""
        for name, move in tuple(self._moves.items()):
            if move.source is lost:
                del self._moves[name]
                if move.target is not None:
                    self._arrive(move, move.target)
                elif not self._books.is_over(name):
                    self._books.end([name], REMOVED_CAUSE, "shutdown")
                    lost.streams = tuple(stream for stream in lost.streams if stream.name != name)
            elif move.target is lost and not move.asked and not move.anew:
                del self._moves[name]

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
            streams={name: self._books.counts[name] for name in self._ordered},
            batches=dict(sorted(batches.items())),
            skipped=sum(each.skipped for each in ended),
            backend=next((each.backend for each in ended), "unknown"),
            precision=next((each.precision for each in ended), "unknown"),
            face_runs=sum(each.face_runs for each in ended),
            face_crops=sum(each.face_crops for each in ended),
            ends=dict(self._ends),
            sinks=sinks,
        )
