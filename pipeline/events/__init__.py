"""Tracks, zones and lines -> what began, changed and ended.

The runtime, service and cluster rooms may import it.
"""

from pipeline.events.log import EventLog
from pipeline.events.zones import Timestamp, ZoneCounter, ZoneEvent, zone_counters_of

__all__ = [
    "EventLog",
    "Timestamp",
    "ZoneCounter",
    "ZoneEvent",
    "zone_counters_of",
]
