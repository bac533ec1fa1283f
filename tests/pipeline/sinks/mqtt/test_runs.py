"""Whole runs that tell a real Mosquitto, and are changed from there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from engines.spec import Model
from pipeline.settings.schema import SinkSettings
from pipeline.sinks.mqtt import MqttSettings
from tests.pipeline.made_runs import Run, check_books, dark_then_bright, make_config, write_model
from tests.pipeline.service.test_control import Controlled
from tests.pipeline.sinks.mqtt.made_broker import Broker, Listener, await_that, retained

pytestmark = pytest.mark.integration
FRAMES, SIZE = 20, (64, 48)
MAT = {"name": "mat", "points": [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("model") / "made")


def sink(port: int, **keys: Any) -> SinkSettings:
    return SinkSettings(kind="mqtt", options=msgspec.convert({"host": "127.0.0.1", "port": port, **keys}, MqttSettings))


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_a_run_leaves_the_broker_as_it_ended(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, links: Literal["queue", "zmq"]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=SIZE, draw=dark_then_bright(FRAMES, SIZE))
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        streams: dict[str, Any] = {"door": {"source": clip, "zones": [MAT]}}
        run = Run(make_config(model, streams, links=links, sinks=(sink(broker.port),), events={"best_crops": True}))
        summary = run.end()
        check_books(run, summary)
        assert summary.sinks["mqtt"].lost == {} and summary.sinks["mqtt"].sent == len(run.messages)
        kept = retained(broker.port)
        assert (kept["trunkline/status"], kept["trunkline/door/count/person"]) == (b"offline", b"0")
        assert msgspec.json.decode(kept["trunkline/door/zone/mat"])["total"] == 0
        health = msgspec.json.decode(kept["trunkline/door/health"])
        assert (health["state"], health["published"]) == ("ended", FRAMES)
        assert kept["trunkline/door/snapshot/person"].startswith(b"\xff\xd8")
        components = msgspec.json.decode(kept["homeassistant/device/trunkline_door/config"])["components"]
        assert "zone_mat" in components
        told = [msgspec.json.decode(body) for body in listener.of("trunkline/door/event")]
        assert [(each["event"], each["kind"], each["track"]) for each in told] == [
            (event.event, event.kind, event.track) for event in run.events("door")
        ]


def test_a_stream_is_switched_off_and_on_from_the_broker(model: Model, tmp_path: Path) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        run = Controlled(model, "door", "yard", sinks=(sink(broker.port, commands=["detect"]),))
        run.flows("door")
        listener.publish("trunkline/door/detect/set", "OFF")
        await_that(lambda: listener.last.get("trunkline/door/detect/state") == b"OFF")
        assert [stream.name for stream in run.control.streams()] == ["yard"]
        await_that(lambda: listener.last["trunkline/door/count/person"] == b"0")
        run.flows("yard")
        listener.publish("trunkline/door/detect/set", "ON")
        await_that(lambda: listener.last["trunkline/door/detect/state"] == b"ON")
        run.flows("door")
        await_that(lambda: listener.last["trunkline/door/count/person"] == b"1")
        run.control.remove("yard")
        await_that(lambda: not [topic for topic in retained(broker.port) if "yard" in topic])
        summary = run.end_now()
        check_books(run, summary)
        assert summary.sinks["mqtt"].lost == {}
