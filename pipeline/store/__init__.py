"""The event store: what happened, with its snapshot and clip, to be searched, exported and forgotten.

The sinks, runtime, service and cluster rooms may import it. It knows events as rows and as JSON, not the wire.
"""

from pipeline.store.events import CLIPS, EventCount, EventStore, NewEvent, Page, StoredEvent, boxes_of
from pipeline.store.query import EventQuery
from pipeline.store.retention import KeepRule, Retention, prune

__all__ = [
    "CLIPS",
    "EventCount",
    "EventQuery",
    "EventStore",
    "KeepRule",
    "NewEvent",
    "Page",
    "Retention",
    "StoredEvent",
    "boxes_of",
    "prune",
]
