"""Home Assistant's discovery: one device for each stream, in the device-based form of Home Assistant 2024.11.

One retained message, ``<discovery>/device/<id>/config``, has the device and all its entities (``components``). Home
Assistant keeps an entity that a later message leaves out, and takes one away that has its ``platform`` and no more.
"""

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, Final
from zlib import crc32

import msgspec

from engines.undecodable import UNDECODABLE
from pipeline.sinks.mqtt.settings import MqttSettings
from pipeline.sinks.mqtt.topics import as_json, level

Component = dict[str, Any]
# Home Assistant takes 255 characters as a state, and shows a longer one as unknown.
PLATFORMS: Final = frozenset({"binary_sensor", "sensor", "image", "switch", "text"})
PEOPLE: Final = "{{ value_json.names | join(', ') | truncate(255, True, '...', 0) }}"


def device_id(settings: MqttSettings, stream: str) -> str:
    """Return what Home Assistant knows a stream's device by: letters, digits, ``_`` and ``-`` alone."""
    wanted = f"{settings.root}_{stream}"
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", wanted)
    return plain if plain == wanted else f"{plain}_{crc32(wanted.encode()):08x}"  # "a.b" is not "a_b"


def devices_root(settings: MqttSettings) -> str:
    """Return below which topic all devices are."""
    return f"{settings.discovery}/device"


def config_topic(settings: MqttSettings, stream: str) -> str:
    """Return where Home Assistant looks for a stream's device."""
    return f"{devices_root(settings)}/{device_id(settings, stream)}/config"


def birth_topic(settings: MqttSettings) -> str:
    """Return where Home Assistant says that it has begun."""
    return f"{settings.discovery}/status"


def device(
    settings: MqttSettings,
    stream: str,
    zones: Collection[str],
    commands: Collection[str],
    version: str,
    former: Mapping[str, str] = MappingProxyType({}),
) -> bytes:
    """Return the message of a stream's device.

    Args:
        settings: of the sink.
        stream: its name.
        zones: names of its zones.
        commands: that are taken for it, see :class:`pipeline.sinks.mqtt.settings.MqttSettings`.
        version: of Trunkline.
        former: entities that were told before, as :func:`entities` gives them; those that are no more are taken away.
    """
    root, own = f"{settings.root}/{stream}", device_id(settings, stream)
    components = _presence(root, stream, settings) | _zones(root, zones) | _commands(root, commands)
    for key, component in components.items():
        component["unique_id"] = f"{own}_{key}"
    return as_json(
        {
            "device": {"identifiers": [own], "name": stream, "manufacturer": "Trunkline", "sw_version": version},
            "origin": {"name": "Trunkline", "sw_version": version},
            "availability": [{"topic": f"{settings.root}/status"}],
            "components": {key: {"platform": platform} for key, platform in former.items()} | components,
            "qos": 1,
        }
    )


class _Device(msgspec.Struct):
    components: dict[str, dict[str, Any]]


def entities(message: bytes) -> dict[str, str]:
    """Return the platform of each entity that a device's message has, by key; nothing of what is no such message."""
    try:
        components = msgspec.json.decode(message, type=_Device).components
    except UNDECODABLE:
        return {}
    return {
        key: component["platform"]
        for key, component in components.items()
        # One unknown platform, and Home Assistant refuses the whole device.
        if len(component) > 1 and component.get("platform") in PLATFORMS and re.fullmatch(r"[a-z0-9_]+", key)
    }


def _presence(root: str, stream: str, settings: MqttSettings) -> dict[str, Component]:
    components: dict[str, Component] = {
        "person": {
            "platform": "binary_sensor",
            "name": "Person",
            "device_class": "occupancy",
            "state_topic": f"{root}/count/person",
            "value_template": "{{ 'ON' if value | int(0) > 0 else 'OFF' }}",
        },
        "people": _sensor("People", f"{root}/people", PEOPLE, "mdi:account-group"),
        "last_person": _sensor("Last person", f"{root}/last_person", "{{ value_json.name }}", "mdi:account"),
        "scene": _sensor("Scene", f"{root}/scene", "{{ value_json.label }}", "mdi:image-area"),
        "health": {
            "platform": "binary_sensor",
            "name": "Stream",
            "device_class": "connectivity",
            "entity_category": "diagnostic",
            "state_topic": f"{root}/health",
            "value_template": "{{ 'ON' if value_json.state == 'up' else 'OFF' }}",
            "json_attributes_topic": f"{root}/health",
            # By this name blueprints for Frigate find the camera of a message.
            "json_attributes_template": f"{{{{ dict(value_json, camera_name='{stream}') | tojson }}}}",
        },
    }
    for label in settings.labels:
        components[f"count_{_key(label)}"] = _sensor(f"Count {label}", f"{root}/count/{level(label)}") | {
            "state_class": "measurement"
        }
        if settings.snapshots:
            components[f"snapshot_{_key(label)}"] = {
                "platform": "image",
                "name": f"Snapshot {label}",
                "image_topic": f"{root}/snapshot/{level(label)}",
                "content_type": "image/jpeg",
            }
    return components


def _zones(root: str, zones: Collection[str]) -> dict[str, Component]:
    components: dict[str, Component] = {}
    for zone in sorted(zones):
        topic = f"{root}/zone/{zone}"
        components[f"zone_{_key(zone)}"] = {
            "platform": "binary_sensor",
            "name": f"Zone {zone}",
            "device_class": "motion",
            "state_topic": topic,
            "value_template": "{{ 'ON' if value_json.total > 0 else 'OFF' }}",
        }
        components[f"zone_count_{_key(zone)}"] = _sensor(f"Zone {zone} count", topic, "{{ value_json.total }}") | {
            "state_class": "measurement"
        }
    return components


def _commands(root: str, commands: Collection[str]) -> dict[str, Component]:
    known: Mapping[str, Component] = {
        "detect": {
            "platform": "switch",
            "name": "Detection",
            "command_topic": f"{root}/detect/set",
            "state_topic": f"{root}/detect/state",
        },
        "record": {
            "platform": "switch",
            "name": "Recording",
            "command_topic": f"{root}/record/set",
            "state_topic": f"{root}/record/state",
        },
        "enroll": {
            "platform": "text",
            "name": "Enrol who is there as",
            "command_topic": f"{root}/enroll/set",
            "min": 1,
            "max": 100,
        },
    }
    return {name: component for name, component in known.items() if name in commands}


def _sensor(name: str, topic: str, template: str | None = None, icon: str | None = None) -> Component:
    component: Component = {"platform": "sensor", "name": name, "state_topic": topic}
    if template is not None:
        component["value_template"] = template
    if icon is not None:
        component["icon"] = icon
    return component


def _key(name: str) -> str:
    """A name as part of an entity's id, unlike that of any other name."""
    plain = re.sub(r"[^a-z0-9_]", "_", name)
    return plain if plain == name else f"{plain}_{crc32(name.encode()):08x}"
