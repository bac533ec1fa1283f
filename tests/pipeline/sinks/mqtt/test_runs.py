"""Whole runs that tell a real Mosquitto, and are changed from there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from msgspec import structs

from engines.spec import Model
from pipeline.service.control import Control
from pipeline.settings.schema import SinkSettings
from pipeline.sinks.mqtt import MqttSettings
from tests.pipeline.made_runs import (
    Run,
    check_books,
    dark_then_bright,
    is_finished,
    make_config,
    video_of,
    videos_of,
    write_model,
)
from tests.pipeline.service.test_control import Controlled
from tests.pipeline.sinks.mqtt.made_broker import Broker, Listener, retained
from tests.waiting import until

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
        until(lambda: retained(broker.port)["trunkline/status"] == b"offline")
        kept = retained(broker.port)
        assert (kept["trunkline/status"], kept["trunkline/door/count/person"]) == (b"offline", b"0")
        assert msgspec.json.decode(kept["trunkline/door/zone/mat"])["total"] == 0
        health = msgspec.json.decode(kept["trunkline/door/health"])
        assert (health["state"], health["published"]) == ("ended", FRAMES)
        assert kept["trunkline/door/snapshot/person"].startswith(b"\xff\xd8")
        components = msgspec.json.decode(kept["homeassistant/device/trunkline_door/config"])["components"]
        assert "zone_mat" in components
        listener.catch_up()
        told = [msgspec.json.decode(body) for body in listener.of("trunkline/door/event")]
        assert [(each["event"], each["kind"], each["track"]) for each in told] == [
            (event.event, event.kind, event.track) for event in run.events("door")
        ]


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_detection_and_recording_are_switched_from_the_broker(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, links: Literal["queue", "zmq"]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=SIZE)
    stream = {"source": clip, "loop": True, "pace": "realtime", "timeout_s": 0.5}
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        commands = sink(broker.port, commands=["detect", "record"])
        record = {"directory": str(tmp_path / "video"), "min_free_gb": 0.0}
        run = Run(make_config(model, {"door": stream, "yard": stream}, links=links, sinks=(commands,), record=record))

        def switch(what: str, value: bytes) -> None:
            listener.publish(f"trunkline/door/{what}/set", value.decode())
            until(lambda: listener.last.get(f"trunkline/door/{what}/state") == value)

        run.wait(lambda run: bool(run.frames("door")) and bool(videos_of(tmp_path / "video", "door")))
        switch("record", b"OFF")
        run.wait(lambda run: is_finished(video_of(tmp_path / "video", "door")))
        switch("detect", b"OFF")
        run.wait(lambda run: run.health("door")[-1].state == "ended")
        until(lambda: listener.last["trunkline/door/count/person"] == b"0")
        seen = len(run.frames("door")), len(run.frames("yard"))
        run.wait(lambda run: len(run.frames("yard")) > seen[1] + 5)
        assert len(run.frames("door")) == seen[0]
        switch("detect", b"ON")
        run.wait(lambda run: len(run.frames("door")) > seen[0] + 5)
        assert listener.last["trunkline/door/record/state"] == b"OFF", "one switch moved another"
        switch("record", b"ON")
        run.wait(lambda run: len(videos_of(tmp_path / "video", "door")) == 2)
        until(lambda: listener.last["trunkline/door/count/person"] == b"1")
        summary = run.end_now()
        check_books(run, summary)
        assert summary.sinks["mqtt"].lost == {}


@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_a_zone_that_is_renamed_while_a_run_goes_on_is_renamed_at_the_broker(
    model: Model, make_clip: Callable[..., Path], tmp_path: Path, links: Literal["queue", "zmq"]
) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=SIZE)
    stream = {"source": clip, "loop": True, "pace": "realtime", "timeout_s": 0.5, "zones": [MAT]}
    control = Control()
    with Broker(tmp_path) as broker:
        config = make_config(model, {"door": stream}, links=links, sinks=(sink(broker.port),))
        run = Run(config, control=control)
        run.flows("door")
        until(lambda: "trunkline/door/zone/mat" in retained(broker.port))
        before = config.streams[0]
        control.change(structs.replace(before, zones=(structs.replace(before.zones[0], name="rug"),)))
        run.flows("door")

        def told() -> dict[str, bool]:
            message = msgspec.json.decode(retained(broker.port)["homeassistant/device/trunkline_door/config"])
            return {key: len(each) > 1 for key, each in message["components"].items() if key.startswith("zone_")}

        until(lambda: told() == {"zone_mat": False, "zone_count_mat": False, "zone_rug": True, "zone_count_rug": True})
        kept = retained(broker.port)
        assert [topic for topic in kept if "/zone/" in topic] == ["trunkline/door/zone/rug"]
        check_books(run, run.end_now())


def test_a_stream_that_is_removed_leaves_nothing_at_the_broker(model: Model, tmp_path: Path) -> None:
    with Broker(tmp_path) as broker:
        run = Controlled(model, "door", "yard", sinks=(sink(broker.port, commands=["detect"]),))
        run.flows("yard")
        run.control.switch("yard", "detect", False)
        until(lambda: retained(broker.port).get("trunkline/yard/detect/state") == b"OFF")
        run.control.remove("yard")
        until(lambda: not [topic for topic in retained(broker.port) if "yard" in topic])
        check_books(run, run.end_now())
