"""Detections of successive frames joined into tracks.

The runtime, service and cluster rooms may import it.
"""

from pipeline.tracking.found import TrackerInput
from pipeline.tracking.stage import Trackers, track
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.update import TrackingRules

__all__ = [
    "Tracker",
    "TrackerInput",
    "Trackers",
    "TrackingRules",
    "track",
]
