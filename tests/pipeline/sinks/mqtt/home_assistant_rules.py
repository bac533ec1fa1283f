"""What Home Assistant takes as a device's discovery by MQTT: keys, values and topics, as its documentation has them.

(Integrations, MQTT: "Device discovery payload", and the configuration variables of each platform; 2024.11 and later.)
Unknown keys of a device are refused there, and of an entity dropped without a word, so here both are faults.
"""

import re
from typing import Any

import jinja2

TOP = {"device", "origin", "components", "state_topic", "command_topic", "qos", "encoding"}
AVAILABILITY = {"availability", "availability_mode", "availability_template", "availability_topic"}
AVAILABILITY |= {"payload_available", "payload_not_available"}
AVAILABILITY_ITEM = {"topic", "payload_available", "payload_not_available", "value_template"}
DEVICE = {"configuration_url", "connections", "hw_version", "identifiers", "manufacturer", "model", "model_id", "name"}
DEVICE |= {"serial_number", "suggested_area", "sw_version", "via_device"}
ORIGIN = {"name", "sw_version", "support_url"}
ENTITY = AVAILABILITY | {"platform", "device", "name", "unique_id", "object_id", "icon", "entity_category", "qos"}
ENTITY |= {"enabled_by_default", "entity_picture", "encoding", "json_attributes_template", "json_attributes_topic"}
SWITCHED = {"command_template", "command_topic", "optimistic", "retain", "state_topic", "value_template"}
PLATFORMS = {
    "binary_sensor": {"device_class", "expire_after", "force_update", "off_delay", "payload_off", "payload_on"}
    | {"state_topic", "value_template"},
    "sensor": {"device_class", "expire_after", "force_update", "last_reset_value_template", "options", "state_class"}
    | {"state_topic", "suggested_display_precision", "unit_of_measurement", "value_template"},
    "image": {"content_type", "image_encoding", "image_topic", "url_template", "url_topic"},
    "switch": SWITCHED | {"device_class", "payload_off", "payload_on", "state_off", "state_on"},
    "text": SWITCHED | {"max", "min", "mode", "pattern"},
}
REQUIRED = {"binary_sensor": "state_topic", "sensor": "state_topic", "image": "image_topic"}
REQUIRED |= {"switch": "command_topic", "text": "command_topic"}
BINARY_SENSOR_CLASSES = {
    *("battery", "battery_charging", "carbon_monoxide", "cold", "connectivity", "door", "garage_door", "gas", "heat"),
    *("light", "lock", "moisture", "motion", "moving", "occupancy", "opening", "plug", "power", "presence", "problem"),
    *("running", "safety", "smoke", "sound", "tamper", "update", "vibration", "window"),
}
VALUES = {
    "entity_category": {"config", "diagnostic"},
    "state_class": {"measurement", "measurement_angle", "total", "total_increasing"},
    "mode": {"text", "password"},
    "qos": {0, 1, 2},
}
MAX_STATE = 255  # characters


def faults(message: dict[str, Any]) -> list[str]:
    """Return what Home Assistant would refuse or not heed."""
    found = _unknown("device message", message, TOP | AVAILABILITY)
    found += [f"{key} is missing" for key in ("device", "origin", "components") if key not in message]
    device, origin = message.get("device", {}), message.get("origin", {})
    found += _unknown("device", device, DEVICE) + _unknown("origin", origin, ORIGIN)
    if not (device.get("identifiers") or device.get("connections")):
        found.append("device has neither identifiers nor connections")
    if "name" not in origin:
        found.append("origin has no name")
    for item in message.get("availability", ()):
        found += _unknown("availability", item, AVAILABILITY_ITEM)
        found += [] if _is_topic(item.get("topic")) else ["availability has no topic"]
    # What has its platform alone is taken away.
    kept = [component for component in message.get("components", {}).values() if set(component) != {"platform"}]
    ids = [component.get("unique_id") for component in kept]
    found += ["two entities have one unique_id"] if len(set(ids)) != len(ids) else []
    for key, component in message.get("components", {}).items():
        found += [f"{key}: {fault}" for fault in _faults_of_entity(component)]
    return found


def _faults_of_entity(component: dict[str, Any]) -> list[str]:
    platform = component.get("platform")
    if platform not in PLATFORMS:
        return [f"platform is {platform!r}"]
    if set(component) == {"platform"}:
        return []
    found = _unknown(str(platform), component, ENTITY | PLATFORMS[str(platform)])
    found += [f"{key} is missing" for key in ("unique_id", REQUIRED[str(platform)]) if key not in component]
    for key, value in component.items():
        if key.endswith("_topic") and not _is_topic(value):
            found.append(f"{key} is {value!r}")
        if key.endswith("_template"):
            found += _faults_of_template(key, value)
        if key in VALUES and value not in VALUES[key]:
            found.append(f"{key} is {value!r}")
    if platform == "binary_sensor" and component.get("device_class", "motion") not in BINARY_SENSOR_CLASSES:
        found.append(f"device_class is {component['device_class']!r}")
    if platform == "text" and not component.get("min", 0) < component.get("max", MAX_STATE) <= MAX_STATE:
        found.append("min and max do not fit")
    return found


def _unknown(what: str, value: dict[str, Any], known: set[str]) -> list[str]:
    return [f"{what} has the unknown key {key!r}" for key in sorted(set(value) - known)]


def _is_topic(value: object) -> bool:
    """Whether one may subscribe and publish to it: no wildcards."""
    return isinstance(value, str) and re.fullmatch(r"[^+#\0]{1,65535}", value) is not None


def _faults_of_template(key: str, template: str) -> list[str]:
    try:
        jinja2.Environment(autoescape=False).from_string(template)
    except jinja2.TemplateError as error:
        return [f"{key} is no template: {error}"]
    return []


def rendered(template: str, payload: str, parsed: object) -> str:
    """Return what an entity's value becomes of a payload."""
    return jinja2.Environment(autoescape=False).from_string(template).render(value=payload, value_json=parsed)
