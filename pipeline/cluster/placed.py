"""What a supervisor needs of a cluster: shards that were given to it, their messages, and who places one; no Ray."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.cluster.shard import OpenedShard, ShardReport
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.summary import Summary
from pipeline.runtime.supervision import CrashLimit
from pipeline.settings.schema import StreamSettings
from pipeline.wire.messages import Message


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
class SupervisedShard:
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
    was_open: bool = False
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
