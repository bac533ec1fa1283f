"""State, events and snapshots to an MQTT broker, in Trunkline's own topics or Frigate's; docs/mqtt.md.

Only its entry point is used by others.
"""

from pipeline.sinks.mqtt.settings import MqttSettings
from pipeline.sinks.mqtt.sink import MqttSink

__all__ = ["MqttSettings", "MqttSink"]
