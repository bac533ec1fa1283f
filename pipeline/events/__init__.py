"""Tracks, zones and lines -> what began, changed and ended, as plain values (pipeline/frames/events.py).

The runtime, service and cluster rooms may import it.
"""

from pipeline.events.log import EventLog
from pipeline.events.zones import Timestamp, ZoneCounter, ZoneEvent, check_zones, zone_counter_of
from pipeline.frames.events import Event

__all__ = [
    "Event",
    "EventLog",
    "Timestamp",
    "ZoneCounter",
    "ZoneEvent",
    "check_zones",
    "zone_counter_of",
]
