"""Which shard of a run on several nodes has which stream, and how streams are added, changed, removed and moved."""

import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Final

import structlog
from msgspec import structs

from engines.errors import ConfigError
from pipeline.cluster.placed import Place, SupervisedShard
from pipeline.cluster.placement import NodeResources, ShardLoad, next_move
from pipeline.cluster.stream_books import StreamBooks
from pipeline.runtime.streams import REMOVED_CAUSE
from pipeline.settings.schema import Config, StreamSettings
from pipeline.wire.messages import EventMessage, HealthMessage, Message

AVOIDED_S: Final = 60.0  # that a silent node gets no shard: Ray takes a quarter of a minute to call it dead

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Move:
    """A stream that is to leave its shard once both it and the other are open."""

    settings: StreamSettings  # that it goes on by
    source: SupervisedShard
    target: SupervisedShard | None  # None: it is removed
    anew: bool = False  # its settings are others
    asked: bool = False  # its shard was asked to let go of it


class StreamMoves:
    """The shards of a run, and the streams that are to leave one. For the thread of the run.

    Args:
        config: of the whole run.
        place: gives a shard to the cluster.
        books: of the streams.
        stop: is set once the run is to end: nothing moves from then on.
        nodes: tells which there are.
        clock: in seconds; never set back.

    Attributes:
        shards: all that there ever were.
        names: of all streams that there ever were.
        silent: since when nodes are whose shards were not heard of any more.
    """

    def __init__(
        self,
        config: Config,
        place: Place,
        books: StreamBooks,
        stop: threading.Event,
        nodes: Callable[[], Collection[NodeResources]],
        clock: Callable[[], float],
    ) -> None:
        self._config, self._place, self._books, self._stop = config, place, books, stop
        self._all_nodes, self._clock = nodes, clock
        self.shards: list[SupervisedShard] = []
        self.names = [stream.name for stream in config.streams]
        self.silent: dict[str, float] = {}
        self._moving: dict[str, _Move] = {}  # by stream
        self._restarts = 0  # how often streams went on elsewhere

    def streams(self) -> tuple[StreamSettings, ...]:
        """Those that were not removed; any thread may ask."""
        return tuple(stream for run in tuple(self.shards) for stream in run.streams)

    def add(self, settings: StreamSettings) -> None:
        """Give a stream more to the shard of its kind that has room and least to do, or to a new one.

        Raises:
            ConfigError: there is one of this name, or no room for its books.
        """
        if settings.name in [stream.name for stream in self.streams()]:
            raise ConfigError(f"stream {settings.name!r} cannot be added: there is one of this name already")
        self._books.begin(settings)
        if settings.name not in self.names:
            self.names.append(settings.name)
        self._give(settings, self._shard_for(settings))

    def change(self, settings: StreamSettings) -> None:
        """Let a stream go on by other settings, as a new one."""
        source = self._shard_of(settings.name)
        target = source if source.group == settings.node and not source.done else self._shard_for(settings)
        move = _Move(settings, source, target, anew=True)
        if self._books.is_over(settings.name):
            self._arrive(move, target)
        else:
            self._moving[settings.name] = replace(move, asked=self._is_asked(settings.name))

    def remove(self, name: str) -> None:
        """Let a stream end."""
        source = self._shard_of(name)
        if self._books.is_over(name):
            source.streams = tuple(stream for stream in source.streams if stream.name != name)
        else:
            settings = next(stream for stream in source.streams if stream.name == name)
            self._moving[name] = _Move(settings, source, None, asked=self._is_asked(name))

    def spread(self) -> None:
        """Move streams from nodes and shards that have many to those that have few; soon, and one by one."""
        nodes = self.nodes()
        while (move := next_move(self._loads(), nodes, self._config.ray)) is not None:
            source = self.shards[move.source]
            leaving = [stream for stream in self._staying(source) if stream.name not in self._moving][-move.streams :]
            if not leaving:
                return  # they are on their way already
            if move.target is None:
                target = self.new_shard(tuple(leaving), {node.id for node in nodes} - {move.node})
                target.streams, target.wanted_node = (), move.node
            else:
                target = self.shards[move.target]
            log.info("streams move", streams=[stream.name for stream in leaving], node=move.node)
            self._moving |= {stream.name: _Move(stream, source, target) for stream in leaving}

    def go_on(self) -> None:
        """Ask shards to let go of what is to leave them, where both are open."""
        for name, move in tuple(self._moving.items()):
            ready = move.target is None or move.target.opened or move.target.done  # then another is found for it
            if move.source.opened and ready and not move.asked:
                move.source.placed.remove(name)
                self._moving[name] = replace(move, asked=True)

    def begin(self, shard: SupervisedShard) -> None:
        """Give a shard that has just been opened its streams."""
        for stream in shard.streams:
            shard.placed.add(stream, self._books.resumed(stream.name, self._restarts))

    def are_coming(self, shard: SupervisedShard) -> bool:
        """Whether streams are to go to a shard."""
        return any(move.target is shard for move in self._moving.values())

    def place_again(self, shard: SupervisedShard, left: tuple[StreamSettings, ...]) -> None:
        """Place a lost shard, which has these streams left, elsewhere."""
        self._restarts += 1
        shard.placed = self._place(left, self._avoided())

    def as_moved(self, run: SupervisedShard, message: Message) -> Message:
        """What ends since its stream leaves a shard has not ended with the stream, as the shard has it."""
        if isinstance(message, EventMessage) and message.cause == "stopped" and not self._stop.is_set():
            move = self._moving.get(message.stream)
            if move is not None and move.source is run and move.asked and move.target is not None:
                return structs.replace(message, cause="down")
        return message

    def leaves(self, run: SupervisedShard, message: Message) -> bool:
        """Go on with a stream whose shard has let go of it; False: subscribers are to hear the message as it is."""
        if not isinstance(message, HealthMessage) or message.state != "ended" or self._stop.is_set():
            return False
        move = self._moving.get(message.stream)
        if move is None or move.source is not run:
            return False
        del self._moving[message.stream]
        if move.target is None:
            run.streams = tuple(stream for stream in run.streams if stream.name != message.stream)
        elif move.anew or message.cause == REMOVED_CAUSE:
            self._books.move(message, "changed" if move.anew else "moved to another shard")
            self._arrive(move, move.target)
            return True
        return False

    def let_go(self, lost: SupervisedShard) -> None:
        """Carry out the moves of streams that a lost shard had, and give up those to it that were not begun."""
        for name, move in tuple(self._moving.items()):
            if move.source is lost:
                del self._moving[name]
                if move.target is not None:
                    self._arrive(move, move.target)
                elif not self._books.is_over(name):
                    self._books.end([name], REMOVED_CAUSE, "shutdown")
                    lost.streams = tuple(stream for stream in lost.streams if stream.name != name)
            elif move.target is lost and not move.asked and not move.anew:
                del self._moving[name]

    def new_shard(self, streams: tuple[StreamSettings, ...], avoided: Collection[str]) -> SupervisedShard:
        """Place a shard with these streams, on a node that is none of those ``avoided``, if it can be."""
        placed = self._place(streams, avoided)
        self.shards.append(SupervisedShard(streams[0].node, streams, placed, self._clock()))
        return self.shards[-1]

    def nodes(self) -> list[NodeResources]:
        """Return the nodes that may have shards."""
        avoided = self._avoided()
        return [node for node in self._all_nodes() if node.id not in avoided]

    def _avoided(self) -> set[str]:
        now_s = self._clock()
        return {node for node, since_s in self.silent.items() if now_s - since_s < AVOIDED_S}

    def _loads(self) -> list[ShardLoad]:
        """What each shard has once all moves are done."""
        return [
            ShardLoad(run.group, "" if run.done or run.stopped else run.node, len(self._staying(run)))
            for run in self.shards
        ]

    def _staying(self, run: SupervisedShard) -> list[StreamSettings]:
        coming = [move.settings for move in self._moving.values() if move.target is run]
        gone = {*filter(self._books.is_over, run.names), *self._moving}
        return [stream for stream in run.streams if stream.name not in gone] + coming

    def _shard_of(self, name: str) -> SupervisedShard:
        found = next((run for run in self.shards if name in run.names), None)
        if found is None:
            raise ConfigError(f"there is no stream {name!r}")
        return found

    def _is_asked(self, name: str) -> bool:
        return name in self._moving and self._moving[name].asked

    def _shard_for(self, settings: StreamSettings) -> SupervisedShard:
        loads = self._loads()
        on = Counter[str]()
        for load in loads:
            on[load.node] += load.streams
        fitting = [
            number
            for number, (run, load) in enumerate(zip(self.shards, loads, strict=True))
            if not (run.done or run.stopped) and run.group == settings.node
            if load.streams < self._config.ray.streams_per_shard
        ]
        if fitting:
            return self.shards[min(fitting, key=lambda number: (on[loads[number].node], loads[number].streams))]
        shard = self.new_shard((settings,), self._avoided())
        shard.streams = ()
        return shard

    def _give(self, settings: StreamSettings, run: SupervisedShard) -> None:
        """A stream that is nowhere is this shard's from now on."""
        run.streams += (settings,)
        if run.opened is not None:
            run.placed.add(settings, self._books.resumed(settings.name, self._restarts))

    def _arrive(self, move: _Move, target: SupervisedShard) -> None:
        """Nobody has the stream any more: it goes on, unless the shard is gone meanwhile, which another is then."""
        name = move.settings.name
        move.source.streams = tuple(stream for stream in move.source.streams if stream.name != name)
        if move.anew:
            self._books.begin(move.settings)
        self._restarts += 1
        self._give(move.settings, self._shard_for(move.settings) if target.done or target.stopped else target)
