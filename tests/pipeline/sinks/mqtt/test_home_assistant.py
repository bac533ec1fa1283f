"""The discovery message before Home Assistant's own parser and the schemas of its platforms.

It has dozens of requirements and a Python of its own, so it is no extra: TRUNKLINE_HOME_ASSISTANT names an interpreter
that has it, 2025.2.5 or newer (``python3.13 -m venv ha && ha/bin/pip install homeassistant==2025.2.5
paho-mqtt==2.1.0 ...``).
"""

import json
import os
import subprocess

import msgspec
import pytest

from pipeline.sinks.mqtt.discovery import device, entities
from pipeline.sinks.mqtt.settings import MqttSettings

INTERPRETER = os.environ.get("TRUNKLINE_HOME_ASSISTANT")
READS = """
import asyncio, importlib, inspect, json, sys, tempfile
from homeassistant.components.mqtt import discovery
from homeassistant.core import HomeAssistant

async def main():
    hass = HomeAssistant(tempfile.mkdtemp())
    parse = discovery._parse_device_payload
    known = {"hass": hass, "payload": sys.stdin.read(), "topic": "a/config", "object_id": "door", "node_id": None}
    device = parse(**{name: known[name] for name in inspect.signature(parse).parameters})
    assert device, "it is no device"
    taken = []
    for key, component in device["components"].items():
        config = discovery.MQTTDiscoveryPayload(component)
        platform = config.pop("platform")
        if not config:
            continue  # what has nothing else is taken away
        discovery._merge_common_device_options(config, device)
        config |= {"device": device["device"], "origin": device["origin"]}
        importlib.import_module(f"homeassistant.components.mqtt.{platform}").DISCOVERY_SCHEMA(dict(config))
        taken.append(key)
    print(json.dumps(taken))
    await hass.async_stop(force=True)

asyncio.run(main())
"""


@pytest.mark.integration
@pytest.mark.skipif(INTERPRETER is None, reason="TRUNKLINE_HOME_ASSISTANT names no interpreter with Home Assistant")
def test_home_assistant_takes_every_entity_and_refuses_one_that_is_none() -> None:
    settings = msgspec.convert({"host": "a", "commands": ["detect", "record", "enroll"]}, MqttSettings)
    told = device(settings, "door.a", ("mat", "Yard.2"), settings.commands, "0.1.0")
    message = device(settings, "door.a", ("mat", "lawn"), settings.commands, "0.1.0", entities(told))

    def read(payload: bytes) -> subprocess.CompletedProcess[bytes]:
        assert INTERPRETER is not None
        return subprocess.run([INTERPRETER, "-c", READS], input=payload, capture_output=True, timeout=100)

    done = read(message)
    assert done.returncode == 0, done.stderr.decode()
    assert set(json.loads(done.stdout)) == set(entities(message)) < set(json.loads(message)["components"])
    wrong = read(message.replace(b'"occupancy"', b'"nonsense"'))
    assert wrong.returncode != 0 and b"BinarySensorDeviceClass" in wrong.stderr
