"""Which streams make a shard, and where it goes."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError
from pipeline.cluster.placement import (
    NodeResources,
    ShardLoad,
    ShardMove,
    check_clustered,
    choose_node,
    needed,
    next_move,
    shards_of,
)
from pipeline.settings.schema import Config, RaySettings
from pipeline.sinks.store import StoreSettings

NODES = [NodeResources("a", {"CPU": 4.0}), NodeResources("b", {"CPU": 8.0, "hall": 1.0}), NodeResources("c", {})]
ONE = {"CPU": 1.0}


def config_of(*streams: dict[str, Any], **sections: Any) -> Config:
    rows = [{"name": f"s{number}", "source": "clip.mp4", **stream} for number, stream in enumerate(streams)]
    return msgspec.convert({"streams": rows, **sections}, Config)


def test_streams_are_spread_evenly_and_those_of_a_node_stay_together() -> None:
    config = config_of({}, {"node": "hall"}, {}, {}, {"node": "hall"}, {}, ray={"streams_per_shard": 3})
    assert [[stream.name for stream in shard] for shard in shards_of(config)] == [
        ["s0", "s2"],
        ["s3", "s5"],
        ["s1", "s4"],
    ]


@pytest.mark.parametrize(
    ("taken", "wanted", "avoided", "expected"),
    [
        pytest.param({}, ONE, (), "b", id="the one with the most room"),
        pytest.param({"b": [ONE] * 6}, ONE, (), "a", id="what was given to it counts"),
        pytest.param({}, ONE, ("b",), "a", id="not one that fell silent"),
        pytest.param({"a": [ONE] * 4}, ONE, ("b",), None, id="none has room"),
        pytest.param({}, {"CPU": 1.0, "hall": 0.001}, (), "b", id="the one with the resource"),
        pytest.param({}, {"CPU": 1.0, "hall": 0.001}, ("b",), None, id="the only one with the resource is gone"),
        pytest.param({}, {"GPU": 1.0}, (), None, id="no GPU anywhere"),
    ],
)
def test_where_a_shard_goes(taken: Any, wanted: Any, avoided: Any, expected: str | None) -> None:
    assert choose_node(NODES, taken, wanted, avoided) == expected


def test_shards_that_take_nothing_are_spread_too() -> None:
    nodes = [NodeResources("a", {"CPU": 2.0}), NodeResources("b", {"CPU": 2.0})]
    wanted = needed(RaySettings(num_cpus=0.0), None)
    assert wanted == {}
    assert choose_node(nodes, {"a": [wanted]}, wanted, ()) == "b"


@pytest.mark.parametrize(
    ("stream", "sections", "sentence"),
    [
        ({}, {"links": "zmq"}, "links is 'zmq', but must be \"queue\" with --ray"),
        ({}, {"record": {"directory": "video"}}, "record.directory is there"),
        ({}, {"metrics": {"address": "127.0.0.1:9464"}}, "metrics.address is there"),
        ({}, {"packets": {"address": "ipc://packets"}}, "packets.address is there"),
        ({"forward": "tcp://127.0.0.1:5570"}, {}, r"streams\[0\].forward is there"),
        ({"source": "-"}, {}, r"streams\[0\].source is"),
        ({"source": "0"}, {}, r"streams\[0\].node is missing"),
        ({"source": "zmq+tcp://0.0.0.0:5570"}, {}, r"streams\[0\].node is missing"),
        ({"node": "CPU"}, {}, r"streams\[0\].node is 'CPU'"),
    ],
)
def test_what_cannot_be_had_on_several_nodes(stream: Any, sections: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        check_clustered(config_of(stream, **sections))


def test_clips_are_refused_and_the_rest_of_a_store_is_not() -> None:
    def with_store(clips: bool) -> Config:
        config = config_of({}, sinks=[{"kind": "store"}])
        sink = msgspec.structs.replace(config.sinks[0], options=StoreSettings(clips=clips))
        return msgspec.structs.replace(config, sinks=(sink,))

    check_clustered(with_store(False))
    with pytest.raises(ConfigError, match=r"sinks\[0\].clips is true"):
        check_clustered(with_store(True))


def test_a_camera_of_a_node_that_is_named_is_allowed() -> None:
    check_clustered(config_of({"source": "0", "node": "hall"}))


def even(shards: list[ShardLoad], nodes: list[NodeResources], settings: RaySettings) -> list[ShardLoad]:
    """The shards once all moves are done; a move must leave them more even than they were."""
    for _ in range(100):
        if (move := next_move(shards, nodes, settings)) is None:
            return shards
        source = shards[move.source]
        shards[move.source] = replace(source, streams=source.streams - move.streams)
        if move.target is None:
            shards.append(ShardLoad(source.group, move.node, move.streams))
        else:
            target = shards[move.target]
            assert (target.node, target.group) == (move.node, source.group)
            shards[move.target] = replace(target, streams=target.streams + move.streams)
    raise AssertionError("moves come to no end")


@pytest.mark.parametrize(
    ("shards", "cpus", "expected"),
    [
        pytest.param({"a": [8, 8]}, {"a": 4, "b": 4}, {"a": [8], "b": [8]}, id="a whole shard moves to a new node"),
        pytest.param({"a": [6], "b": [6]}, {"a": 4, "b": 4, "c": 4}, {"a": [4], "b": [4], "c": [4]}, id="part of each"),
        pytest.param({"a": [4], "b": [4]}, {"a": 4, "b": 4}, {"a": [4], "b": [4]}, id="even as it is"),
        pytest.param({"a": [4], "b": [5]}, {"a": 4, "b": 4}, {"a": [4], "b": [5]}, id="a single one is left"),
        pytest.param({"a": [7, 1]}, {"a": 4}, {"a": [4, 4]}, id="shards of one node"),
        pytest.param({"a": [8]}, {"a": 4, "b": 12}, {"a": [2], "b": [6]}, id="by CPUs"),
        pytest.param({"a": [8]}, {"a": 4, "b": 0}, {"a": [8]}, id="a node without room"),
        pytest.param({"a": [8, 8, 8]}, {"a": 4, "b": 8}, {"a": [8], "b": [8, 8]}, id="no more than a shard may have"),
        pytest.param({}, {"a": 4}, {}, id="no shard"),
    ],
)
def test_streams_are_moved_until_they_are_even(
    shards: dict[str, list[int]], cpus: dict[str, int], expected: dict[str, list[int]]
) -> None:
    nodes = [NodeResources(name, {"CPU": float(count)}) for name, count in cpus.items()]
    loads = [ShardLoad(None, node, count) for node, counts in shards.items() for count in counts]
    found: dict[str, list[int]] = {}
    for shard in even(loads, nodes, RaySettings(streams_per_shard=8)):
        if shard.streams:
            found.setdefault(shard.node, []).append(shard.streams)
    assert {node: sorted(counts) for node, counts in found.items()} == expected


def test_streams_of_a_node_of_their_own_stay_on_such_nodes() -> None:
    nodes = [NodeResources("a", {"CPU": 4.0, "hall": 1.0}), NodeResources("b", {"CPU": 4.0})]
    assert next_move([ShardLoad("hall", "a", 8)], nodes, RaySettings()) is None
    nodes.append(NodeResources("c", {"CPU": 4.0, "hall": 1.0}))
    assert next_move([ShardLoad("hall", "a", 8)], nodes, RaySettings()) == ShardMove(0, None, "c", 4)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 8)), max_size=8),
    st.lists(st.integers(0, 9), min_size=3, max_size=3),
)
def test_moves_come_to_an_end_and_no_stream_is_lost(loads: list[tuple[str, int]], cpus: list[int]) -> None:
    nodes = [NodeResources(name, {"CPU": float(count)}) for name, count in zip("abc", cpus, strict=True)]
    shards = even([ShardLoad(None, *load) for load in loads], nodes, RaySettings(streams_per_shard=8))
    assert sum(shard.streams for shard in shards) == sum(count for _, count in loads)
    assert all(0 <= shard.streams <= 8 for shard in shards)
