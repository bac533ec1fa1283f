"""Which streams make a shard, on which node it goes, and what a run on several nodes cannot have. Pure."""

from collections import defaultdict
from collections.abc import Collection, Mapping
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
        _check_stream(f"streams[{index}]", stream)


def _check_stream(key: str, stream: StreamSettings) -> None:
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
        avoided: nodes that fell silent, which Ray takes for alive for a while.
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
