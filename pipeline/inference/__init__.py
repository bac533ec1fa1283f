"""Batches -> the network's input -> its raw outputs -> detections.

The runtime, service and cluster rooms may import it.
"""

from pipeline.inference.stage import (
    Started,
    collect,
    detect,
    open_entry,
    open_planes,
    room_between,
    start,
    start_planes,
)

__all__ = [
    "Started",
    "collect",
    "detect",
    "open_entry",
    "open_planes",
    "room_between",
    "start",
    "start_planes",
]
