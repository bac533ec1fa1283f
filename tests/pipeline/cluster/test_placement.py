"""Which streams make a shard, and where it goes."""

from typing import Any

import msgspec
import pytest

from engines.errors import ConfigError
from pipeline.cluster.placement import NodeResources, check_clustered, choose_node, needed, shards_of
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
