"""What Home Assistant is told of a stream, by the rules of its documentation (MQTT: device discovery, 2024.11)."""

import json
import re
from typing import Any

import msgspec
import pytest

from pipeline.sinks.mqtt.discovery import config_topic, device, entities
from pipeline.sinks.mqtt.settings import MqttSettings
from tests.pipeline.sinks.mqtt.home_assistant_rules import MAX_STATE, PLATFORMS, faults, rendered


def told(stream: str = "door", zones: tuple[str, ...] = ("mat",), **keys: Any) -> dict[str, Any]:
    settings = msgspec.convert({"host": "a", **keys}, MqttSettings)
    value: dict[str, Any] = json.loads(device(settings, stream, zones, settings.commands, "1.2.3"))
    return value


ALL = ["detect", "record", "enroll"]


def test_every_entity_follows_its_platform_s_rules() -> None:
    for value in (
        told(),
        told(commands=ALL),
        told("a.b", ("Yard.2", "mat"), labels=["zebra", "tram/bus"], prefix="x/y"),
    ):
        assert faults(value) == []
    value = told(commands=ALL)
    assert value["device"]["identifiers"] == ["trunkline_door"] and value["origin"]["name"] == "Trunkline"
    assert value["availability"] == [{"topic": "trunkline/status"}]
    assert {component["platform"] for component in value["components"].values()} == set(PLATFORMS)


WRONG: dict[str, tuple[str, Any, str]] = {
    "a device class that is none": ("components.person.device_class", "person", "person: device_class is 'person'"),
    "a key that is none": ("components.person.state", "x", "person: binary_sensor has the unknown key 'state'"),
    "a platform that is none": ("components.person.platform", "camera_", "person: platform is 'camera_'"),
    "a wildcard": ("components.person.state_topic", "door/#", "person: state_topic is 'door/#'"),
    "a broken template": ("components.person.value_template", "{{ value", "person: value_template is no template"),
    "nothing to know it by": ("device.identifiers", [], "device has neither identifiers nor connections"),
    "a key of the message that is none": ("cmps", {}, "device message has the unknown key 'cmps'"),
    "an id that another has": (
        "components.person.unique_id",
        "trunkline_door_people",
        "two entities have one unique_id",
    ),
}


@pytest.mark.parametrize(("path", "value", "fault"), WRONG.values(), ids=WRONG)
def test_the_rules_find_what_is_wrong(path: str, value: Any, fault: str) -> None:
    message = told(commands=ALL)
    *way, last = path.split(".")
    place = message
    for step in way:
        place = place[step]
    place[last] = value
    assert [found.startswith(fault) for found in faults(message)] == [True]


def test_templates_give_the_states_that_entities_know() -> None:
    components = told(labels=["person"])["components"]
    states = {
        "person": [("2", 2, "ON"), ("0", 0, "OFF"), ("", None, "OFF")],
        "people": [
            ("", {"names": ["Ada", "Bob"]}, "Ada, Bob"),
            ("", {"names": []}, ""),
            ("", {"names": ["n" * 100] * 3}, f"{'n' * 100}, {'n' * 100}, {'n' * 48}..."),
        ],
        "last_person": [("", {"name": "Ada"}, "Ada")],
        "scene": [("", {"label": "street"}, "street"), ("", {"label": None}, "None")],  # "None": unknown
        "health": [("", {"state": "up"}, "ON"), ("", {"state": "ended"}, "OFF")],
        "zone_mat": [("", {"total": 1}, "ON"), ("", {"total": 0}, "OFF")],
        "zone_count_mat": [("", {"total": 3}, "3")],
    }
    for name, cases in states.items():
        for payload, parsed, state in cases:
            assert rendered(components[name]["value_template"], payload, parsed) == state and len(state) <= MAX_STATE
    attributes = rendered(components["health"]["json_attributes_template"], "", {"state": "up"})
    assert json.loads(attributes) == {"state": "up", "camera_name": "door"}


def test_there_is_an_entity_for_all_that_is_asked_for() -> None:
    components = told(labels=["person"], commands=["detect", "record", "enroll"])["components"]
    assert set(components) == {
        *("person", "people", "last_person", "scene", "health", "count_person", "snapshot_person"),
        *("zone_mat", "zone_count_mat", "detect", "record", "enroll"),
    }
    assert not {"detect", "record", "enroll"} & set(told()["components"]), "switches that nobody may use are not shown"


def test_what_was_told_before_and_is_no_more_is_taken_away() -> None:
    settings = msgspec.convert({"host": "a"}, MqttSettings)
    before = device(settings, "door", ("mat", "Step"), ("detect",), "1.2.3")
    after = device(settings, "door", ("mat", "lawn"), (), "1.2.3", entities(before))
    value = json.loads(after)
    assert faults(value) == []
    gone = {key: each for key, each in value["components"].items() if len(each) == 1}
    step = [key for key in gone if key.startswith("zone_")]
    assert {key: gone[key]["platform"] for key in step} == {
        key: "sensor" if "count" in key else "binary_sensor" for key in step
    }
    assert len(step) == 2 and gone.keys() - step == {"detect"} and gone["detect"] == {"platform": "switch"}
    assert set(entities(after)) == set(entities(device(settings, "door", ("mat", "lawn"), (), "1.2.3")))
    assert json.loads(device(settings, "door", ("mat", "lawn"), (), "1.2.3", entities(after)))["components"].keys() == (
        entities(after).keys()
    ), "what was taken away is left out by the next run"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff",
        b"[" * 100_000,
        b"{}",
        b'{"components": 3}',
        b'{"components": {"a": []}}',
        b'{"components": {"a": {"name": "no platform"}}}',
        b'{"components": {"a": {"platform": 3, "name": "x"}}}',
        b'{"components": {"a": {"platform": "nonsense", "name": "x"}}}',
        b'{"components": {"a/#": {"platform": "sensor", "name": "x"}}}',
        b'{"components": {"a": {"platform": "sensor"}}}',
    ],
)
def test_what_others_left_as_a_device_takes_nothing_away(message: bytes) -> None:
    assert entities(message) == {}


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
