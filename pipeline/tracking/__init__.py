"""Detections of successive frames joined into tracks.

The runtime, service and cluster rooms may import it.
"""

from pipeline.tracking.found import TrackerInput
from pipeline.tracking.stage import StreamTracker, Trackers, track
from pipeline.tracking.tracker import Tracker

__all__ = [
    "StreamTracker",
    "Tracker",
    "TrackerInput",
    "Trackers",
    "track",
]
