"""The examples of docs/mqtt.md are what is really said."""

import json
import re
from pathlib import Path

import msgspec
import pytest

from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.mqtt import MqttSettings, MqttSink
from tests.pipeline.sinks.mqtt.made_broker import Broker, Listener, retained
from tests.pipeline.sinks.mqtt.made_messages import event, face, frame, health
from tests.pipeline.sinks.mqtt.test_broker import Switched
from tests.waiting import until

PAGE = (Path(__file__).parents[4] / "docs" / "mqtt.md").read_text()
DOOR = Config(streams=(StreamSettings(name="door", source="0"),))


def documented(prefix: str) -> dict[str, bytes]:
    lines = re.findall(rf"^({prefix}/\S+) (.+)$", PAGE, re.MULTILINE)
    assert len(lines) > 5
    return {topic: value.encode() for topic, value in lines}


@pytest.mark.integration
@pytest.mark.parametrize("dialect", ["trunkline", "frigate"])
def test_each_example_is_what_a_broker_keeps(tmp_path: Path, dialect: str) -> None:
    with Broker(tmp_path) as broker, Listener(broker.port) as listener:
        keys = {"host": "127.0.0.1", "port": broker.port, "dialect": dialect, "commands": ["detect"]}
        sink = MqttSink(msgspec.convert(keys, MqttSettings))
        sink.attach(DOOR, Switched())
        for message in (
            health("up", "1920x1080 h264"),
            frame("door", "person", names=("Ada",), scene="street"),
            event(),
            event("zone", "enter", name="mat", counts={"present": {"person": 1}}),
            event("line", "cross", name="gate", direction="a_to_b", counts={"a_to_b": {"person": 1}, "b_to_a": {}}),
            event("identity", "new", track=50, label="Ada", score=0.71, best_face=face("Ada")),
        ):
            sink.send(message)
        until(lambda: retained(broker.port) == sink.state)
        kept = retained(broker.port)
        assert {topic: kept.get(topic) for topic in documented(dialect)} == documented(dialect)
        if dialect == "frigate":
            blocks = re.findall(r"```json\n(.+?)```", PAGE, re.DOTALL)
            until(lambda: len(listener.of("frigate/events")) == len(listener.of("frigate/reviews")) == 3)
            for topic, block in zip(("events", "reviews"), blocks, strict=True):
                assert json.loads(listener.of(f"frigate/{topic}")[-1]) == json.loads(block)
        sink.close()
