"""Which streams make a shard, on which node it goes, and what a run on several nodes cannot have. Pure."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from msgspec import structs

from engines.errors import ConfigError
from pipeline.settings.schema import STANDARD_INPUT, Config, RaySettings, StreamSettings
from pipeline.sources.base import source_name
from pipeline.sources.network import is_remote

SHARE_OF_NODE: Final = 0.001  # of a node's own resource that a shard takes: it says where, not how much
RESERVED: Final = frozenset({"CPU", "GPU", "memory", "object_store_memory"})  # resources that Ray counts itself


@dataclass(frozen=True, slots=True)
class NodeResources:
    """A node that is alive."""

    id: str
    resources: Mapping[str, float]  # all of it, as Ray names them


def check_clustered(config: Config) -> None:
    """Refuse what a run on several nodes cannot have.

    Raises:
        ConfigError: with the key, the value and what is allowed.
    """
    absent = "must be left out with --ray"
    if config.links != "queue":
        raise ConfigError(f'links is {config.links!r}, but must be "queue" with --ray: a shard is one process')
    for key, value in (
        ("record.directory", config.record.directory),
        ("metrics.address", config.metrics.address),
        ("packets.address", config.packets.address),
    ):
        if value is not None:
            raise ConfigError(f"{key} is there, but {absent}: video, packets and stage times stay on the nodes")
    for index, sink in enumerate(config.sinks):
        if getattr(sink.options, "clips", False):
            raise ConfigError(f"sinks[{index}].clips is true, but must be false with --ray: packets stay on the nodes")
    for index, stream in enumerate(config.streams):
        check_clustered_stream(f"streams[{index}]", stream)


def check_clustered_stream(key: str, stream: StreamSettings) -> None:
    """Refuse a stream that nodes of a cluster cannot have, as :func:`check_clustered` does."""
    if stream.forward is not None:
        raise ConfigError(f"{key}.forward is there, but must be left out with --ray")
    if stream.source == STANDARD_INPUT:
        raise ConfigError(f'{key}.source is "-", but must be something else with --ray: nodes have no standard input')
    if stream.node in RESERVED:
        raise ConfigError(f"{key}.node is {stream.node!r}, but must be the name of a resource that nodes were given")
    if stream.node is None and (is_remote(stream.source) or source_name(stream.source) == "camera"):
        raise ConfigError(
            f"{key}.node is missing, but must be there with --ray: the source is a camera or port of one node"
        )


def shards_of(config: Config) -> list[tuple[StreamSettings, ...]]:
    """Return the streams of each shard: alike in ``node``, in their order, as evenly as it goes.

    >>> streams = tuple(StreamSettings(name=f"s{number}", source="a.mp4") for number in range(5))
    >>> [len(shard) for shard in shards_of(Config(streams=streams, ray=RaySettings(streams_per_shard=2)))]
    [2, 2, 1]
    """
    groups: defaultdict[str | None, list[StreamSettings]] = defaultdict(list)
    for stream in config.streams:
        groups[stream.node].append(stream)
    shards = []
    for group in groups.values():
        count = -(-len(group) // config.ray.streams_per_shard)
        size, more = divmod(len(group), count)
        ends = [number * size + min(number, more) for number in range(count + 1)]
        shards += [tuple(group[start:end]) for start, end in pairwise(ends)]
    return shards


def needed(settings: RaySettings, node: str | None) -> dict[str, float]:
    """Return what a shard takes of its node, as Ray names resources."""
    wanted = {"CPU": settings.num_cpus, "GPU": settings.num_gpus}
    if node is not None:
        wanted[node] = SHARE_OF_NODE
    return {name: amount for name, amount in wanted.items() if amount}


@dataclass(frozen=True, slots=True)
class ShardLoad:
    """A shard that streams may leave or come to."""

    group: str | None  # ``node`` of its streams
    node: str  # id of the one that it is on
    streams: int


@dataclass(frozen=True, slots=True)
class ShardMove:
    """Some streams of one shard that are to be elsewhere: in another shard, or in a new one on a node."""

    source: int
    target: int | None  # None: a new shard
    node: str
    streams: int


def next_move(shards: Sequence[ShardLoad], nodes: Collection[NodeResources], settings: RaySettings) -> ShardMove | None:
    """Return what to move to make the streams of nodes, and then those of shards of a node, more even; None: they are.

    Load is streams for each CPU of a node. Moves that are carried out one after the other come to an end.
    """
    for group in dict.fromkeys(shard.group for shard in shards):
        moves = (_between_nodes(shards, nodes, settings, group), *_within_nodes(shards, nodes, group))
        if (move := next(filter(None, moves), None)) is not None:
            return move
    return None


def _between_nodes(
    shards: Sequence[ShardLoad], nodes: Collection[NodeResources], settings: RaySettings, group: str | None
) -> ShardMove | None:
    """From the node with most load that has streams of a group to the one with least that has room for some."""
    cpus = {node.id: node.resources.get("CPU") or 1.0 for node in nodes}
    streams = {id_: sum(shard.streams for shard in shards if shard.node == id_) for id_ in cpus}
    theirs = {id_: _filled(shards, group, id_) for id_ in cpus}
    wanted, taken = needed(settings, group), defaultdict[str, list[dict[str, float]]](list)
    for shard in shards:
        taken[shard.node].append(needed(settings, shard.group))
    rooms = dict[str, tuple[int | None, int]]()  # by node: the shard that may have more, and how many
    for node in nodes:
        open_ = [place for place in theirs[node.id] if shards[place].streams < settings.streams_per_shard]
        if open_:
            rooms[node.id] = open_[0], settings.streams_per_shard - shards[open_[0]].streams
        elif choose_node([node], taken, wanted, ()) is not None:
            rooms[node.id] = None, settings.streams_per_shard
    loads = {id_: streams[id_] / cpus[id_] for id_ in cpus}
    high = max(filter(theirs.get, cpus), key=loads.__getitem__, default=None)
    low = min(rooms, key=loads.__getitem__, default=None)
    if high is None or low is None:
        return None
    source, (target, room) = theirs[high][-1], rooms[low]
    even = (streams[high] * cpus[low] - streams[low] * cpus[high]) / (cpus[high] + cpus[low])
    count = min(int(even), shards[source].streams, room)
    return ShardMove(source, target, low, count) if count > 0 else None


def _within_nodes(
    shards: Sequence[ShardLoad], nodes: Collection[NodeResources], group: str | None
) -> Iterator[ShardMove]:
    for node in nodes:
        filled = _filled(shards, group, node.id)
        if filled and (count := (shards[filled[-1]].streams - shards[filled[0]].streams) // 2):
            yield ShardMove(filled[-1], filled[0], node.id, count)


def _filled(shards: Sequence[ShardLoad], group: str | None, node: str) -> list[int]:
    """The shards of a group on a node that have streams, those with fewest first."""
    found = [place for place, each in enumerate(shards) if each.streams and (each.group, each.node) == (group, node)]
    return sorted(found, key=lambda place: shards[place].streams)


def choose_node(
    nodes: Collection[NodeResources],
    taken: Mapping[str, Collection[Mapping[str, float]]],
    wanted: Mapping[str, float],
    avoided: Collection[str],
) -> str | None:
    """Return the node with the most room for a shard; None where none has enough, which is then for Ray to find.

    Args:
        nodes: that are alive, as far as Ray knows.
        taken: what the shards on each node take.
        wanted: what the shard takes.
        avoided: nodes that it must not be, such as those that fell silent, which Ray takes for alive for a while.
    """

    def left(node: NodeResources) -> dict[str, float]:
        return {
            name: node.resources.get(name, 0.0) - sum(shard.get(name, 0.0) for shard in taken.get(node.id, ()))
            for name in {"CPU", *wanted}
        }

    fitting = {node.id: room for node in nodes if node.id not in avoided and _fits(wanted, room := left(node))}
    # Of equal ones that with the fewest shards, which may take no CPU.
    return max(fitting, key=lambda id_: (fitting[id_]["CPU"], -len(taken.get(id_, ()))), default=None)


def _fits(wanted: Mapping[str, float], room: Mapping[str, float]) -> bool:
    return all(room[name] >= amount - 1e-9 for name, amount in wanted.items())


def config_of_shard(config: Config, streams: tuple[StreamSettings, ...]) -> Config:
    """Return what a shard runs: its streams alone, and no sinks; where it publishes is said on its node."""
    publish = structs.replace(config.publish, address="tcp://127.0.0.1:0", encoding="msgpack", insecure=False)
    return structs.replace(config, streams=streams, sinks=(), web=None, publish=publish)
