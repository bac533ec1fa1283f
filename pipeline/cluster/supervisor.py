"""Keeps the shards of a run on several nodes running: what is lost is placed elsewhere, and subscribers are told truly.

It knows no Ray: shards are placed by what is passed in, and can be made up in tests.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import Final

import structlog

from engines.errors import ConfigError, StageError, TrunklineError
from pipeline.cluster.moves import StreamMoves
from pipeline.cluster.placed import Inbox, Place, ShardLost, SupervisedShard
from pipeline.cluster.placement import NodeResources
from pipeline.cluster.shard import OpenedShard
from pipeline.cluster.stream_books import StreamBooks
from pipeline.runtime.summary import FileEnd, Summary
from pipeline.runtime.supervision import MAX_CRASHES, source_patience_s
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.base import SinkCounts
from pipeline.wire.messages import HealthMessage, Message

LOOK_S: Final = 0.02  # that messages are waited for, between two looks at the shards
LAST_WORDS_S: Final = 2.0  # that messages of a shard whose run is over may be on their way
END_S: Final = 15.0  # that a shard has to end once it is stopped, besides what its sources need
ROOM_S: Final = 10.0  # after which it is told that a shard was not placed
UNREACHABLE_S: Final = 1.0  # after which a shard is lost whose address refuses connections
NODES_S: Final = 2.0  # between two looks whether a node has come

log = structlog.get_logger()


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

    Attributes:
        moves: adds, changes, removes and moves streams.
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
        self._config, self._inbox, self._books, self._stop, self._clock = config, inbox, books, stop, clock
        self.moves = StreamMoves(config, place, books, stop, nodes, clock)
        self._ends: dict[str, FileEnd] = {}
        self._stopped_s: float | None = None
        self._began_s = clock()
        self._known: set[str] = set()  # the nodes at the last look ...
        self._looked_s = -NODES_S  # ... and when that was
        self._calls: queue.SimpleQueue[tuple[Callable[[], None], Future[None]]] = queue.SimpleQueue()
        for streams in shards:
            self.moves.new_shard(streams, ())

    def open(self) -> bool:
        """Wait until all shards are open; False where the run was stopped meanwhile.

        Raises:
            TrunklineError: one of them cannot run.
        """
        while not self._stop.is_set():
            for run in self.moves.shards:
                self._look_for_opened(run, first=True)
            if all(run.opened for run in self.moves.shards):
                return True
            time.sleep(LOOK_S)
        return False

    def run(self) -> None:
        """Publish what the shards say until all streams have ended or the run was stopped.

        Raises:
            StageError: a shard was lost too often.
        """
        self._began_s = self._clock()
        for number, run in enumerate(self.moves.shards):
            assert run.opened is not None
            self._begin(number, run, run.opened)
        while not all(run.done for run in self.moves.shards) or not (self.moves.streams() or self._stop.is_set()):
            for number, message in self._inbox.receive(LOOK_S):
                self._take(self.moves.shards[number], message)
            for number, run in enumerate(self.moves.shards):
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
            self._known = {node.id for node in self.moves.nodes()}
            if before and self._known - before:
                self.moves.spread()
        self.moves.go_on()

    def close(self) -> None:
        """End all shards; what is left of their streams is counted as ``shutdown``."""
        for number, run in enumerate(self.moves.shards):
            run.placed.kill()
            self._inbox.disconnect(number)
            if not run.done:
                self._finish(run, "shutdown")

    def _take(self, run: SupervisedShard, message: Message) -> None:
        if run.done:
            return
        run.heard_s = self._clock()
        if not self.moves.leaves(run, message):
            self._books.take(self.moves.as_moved(run, message))
        if isinstance(message, HealthMessage) and message.read is not None:
            self._ends[message.stream] = FileEnd(message.read, message.cause)

    def _look_for_opened(self, run: SupervisedShard, first: bool) -> None:
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

    def _begin(self, number: int, run: SupervisedShard, opened: OpenedShard) -> None:
        self._inbox.connect(number, opened)
        run.was_open = True
        run.heard_s = self._clock()
        self.moves.silent.pop(opened.node, None)
        log.info("shard placed", node=opened.node, streams=run.names)
        self.moves.begin(run)

    def _look(self, number: int, run: SupervisedShard) -> None:
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
            if run.was_open:
                self._lose(number, run, f"its run failed: {error}")
            else:
                self._refuse(run, str(error))
        else:
            self._settle(number, run)

    def _hear(self, run: SupervisedShard) -> None:
        report, now_s = run.placed.report(), self._clock()
        if report is None:
            silent_s, timeout_s = now_s - run.heard_s, self._config.ray.timeout_s
            if silent_s > (min(UNREACHABLE_S, timeout_s) if run.placed.unreachable else timeout_s):
                assert run.opened is not None
                self.moves.silent[run.opened.node] = now_s
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

    def _settle(self, number: int, run: SupervisedShard) -> None:
        """Stop a shard that has nothing to do any more; it is done once its last words were heard."""
        heard = all(map(self._books.is_over, run.names))
        if run.summary is None:
            if heard and not run.stopped and not self.moves.are_coming(run):
                run.stopped = True
                run.placed.stop()
            return
        if heard or self._clock() - run.over_s > LAST_WORDS_S:
            self._inbox.disconnect(number)
            self._finish(run, "lost")
            run.placed.kill()

    def _refuse(self, run: SupervisedShard, cause: str) -> None:
        """A new shard cannot run: streams that were added for it end, and those that were to go there stay."""
        log.error("shard cannot run", streams=run.names, cause=cause)
        run.placed.kill()
        run.done = True
        self._books.end([name for name in run.names if not self._books.is_over(name)], cause, "lost")
        self.moves.let_go(run)

    def _finish(self, run: SupervisedShard, frames: str) -> None:
        run.done = True
        left = [name for name in run.names if not self._books.is_over(name)]
        self._books.end(left, "the run was stopped", "lost" if frames == "lost" else "shutdown")

    def _lose(self, number: int, run: SupervisedShard, cause: str) -> None:
        """Tell that a shard is lost, and place what it has not ended elsewhere."""
        self._inbox.disconnect(number)
        run.placed.kill()  # it may live and be cut off: nothing it says counts any more
        names = [name for name in run.names if not self._books.is_over(name)]
        log.error("shard lost", streams=names, cause=cause)
        if run.opened is not None:  # else that it is gone was told before
            self._books.lose(names, f"its shard was lost: {cause}")
        run.opened, run.wanted_node, run.since_s, run.told = None, None, self._clock(), False
        self.moves.let_go(run)
        left = tuple(stream for stream in run.streams if not self._books.is_over(stream.name))
        if not left or self._stop.is_set():
            self._finish(run, "shutdown")
            return
        if not run.crashes.allows(self._clock()):
            lost = ", ".join(stream.name for stream in left)
            raise StageError(f"streams {lost} were lost more than {MAX_CRASHES} times in a minute: {cause}")
        self.moves.place_again(run, left)

    def _end(self) -> None:
        """The run was stopped: shards finish their frames, unless that takes too long."""
        if self._stopped_s is None:
            self._stopped_s = self._clock()
            for run in self.moves.shards:
                if not run.done:
                    run.placed.stop()
        for number, run in enumerate(self.moves.shards):
            unopened = run.opened is None  # nothing of it is under way
            patience_s = 0.0 if unopened else END_S + source_patience_s(run.streams)
            if not run.done and self._clock() - self._stopped_s > patience_s:
                self._inbox.disconnect(number)
                run.placed.kill()
                self._finish(run, "shutdown")

    def summary(self, sinks: dict[str, SinkCounts]) -> Summary:
        """Return the books of the whole run; what only a lost shard counted, such as its batches, is missing."""
        ended = [run.summary for run in self.moves.shards if run.summary is not None]
        batches = sum((Counter(each.batches) for each in ended), Counter[int]())
        return Summary(
            seconds=self._clock() - self._began_s,
            streams={name: self._books.counts[name] for name in self.moves.names},
            batches=dict(sorted(batches.items())),
            skipped=sum(each.skipped for each in ended),
            backend=next((each.backend for each in ended), "unknown"),
            precision=next((each.precision for each in ended), "unknown"),
            face_runs=sum(each.face_runs for each in ended),
            face_crops=sum(each.face_crops for each in ended),
            ends=dict(self._ends),
            sinks=sinks,
        )
