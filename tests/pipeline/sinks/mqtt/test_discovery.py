"""What Home Assistant is told of a stream, by the rules of its documentation (MQTT: device discovery, 2024.11)."""

import json
import re
from typing import Any

import msgspec
import pytest

from pipeline.sinks.mqtt.discovery import config_topic, device
from pipeline.sinks.mqtt.settings import MqttSettings

SHARED = {"platform", "name", "unique_id", "icon", "entity_category"}
# Of each platform the keys used here, and what must be there.
KEYS = {
    "binary_sensor": {"state_topic", "value_template", "device_class", "json_attributes_topic"},
    "sensor": {"state_topic", "value_template", "state_class"},
    "image": {"image_topic", "content_type"},
    "switch": {"state_topic", "command_topic"},
    "text": {"command_topic", "min", "max"},
}
REQUIRED = {"image": "image_topic", "switch": "command_topic", "text": "command_topic"}
CLASSES = {"occupancy", "motion", "connectivity"}  # of binary sensors, among Home Assistant's


def told(stream: str = "door", zones: tuple[str, ...] = ("mat",), **keys: Any) -> dict[str, Any]:
    settings = msgspec.convert({"host": "a", **keys}, MqttSettings)
    value: dict[str, Any] = json.loads(device(settings, stream, zones, settings.commands, "1.2.3"))
    return value


def test_every_entity_follows_its_platform_s_rules() -> None:
    value = told(commands=["detect", "record", "enroll"])
    assert set(value) == {"device", "origin", "availability", "components", "qos"}
    assert value["device"]["identifiers"] == ["trunkline_door"] and value["origin"]["name"] == "Trunkline"
    assert value["availability"] == [{"topic": "trunkline/status"}]
    for component in value["components"].values():
        platform = component["platform"]
        assert set(component) <= SHARED | KEYS[platform]
        assert {"name", "unique_id", REQUIRED.get(platform, "state_topic")} <= set(component)
        assert component.get("device_class", "motion") in CLASSES
    ids = [component["unique_id"] for component in value["components"].values()]
    assert len(set(ids)) == len(ids)


def test_there_is_an_entity_for_all_that_is_asked_for() -> None:
    components = told(labels=["person"], commands=["detect", "record", "enroll"])["components"]
    assert set(components) == {
        *("person", "people", "last_person", "scene", "health", "count_person", "snapshot_person"),
        *("zone_mat", "zone_count_mat", "detect", "record", "enroll"),
    }
    assert not {"detect", "record", "enroll"} & set(told()["components"]), "switches that nobody may use are not shown"


def test_names_that_differ_have_ids_that_differ_and_that_home_assistant_takes() -> None:
    settings = msgspec.convert({"host": "a", "prefix": "home/cams"}, MqttSettings)
    topics = [config_topic(settings, stream) for stream in ("a.b", "a_b", "a-b")]
    assert len(set(topics)) == 3
    assert all(re.fullmatch(r"homeassistant/device/[A-Za-z0-9_-]+/config", topic) for topic in topics)
    keys = set(told(zones=("a.b", "a_b", "A_b"))["components"])
    assert len([key for key in keys if key.startswith("zone_count")]) == 3


@pytest.mark.parametrize(
    ("keys", "discovers"), [({}, True), ({"discovery": ""}, False), ({"dialect": "frigate"}, False)]
)
def test_who_is_told(keys: dict[str, Any], discovers: bool) -> None:
    assert msgspec.convert({"host": "a", **keys}, MqttSettings).discovers is discovers
