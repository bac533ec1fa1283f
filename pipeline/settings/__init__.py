"""The configuration of a run: its schema, how it is loaded and checked, and addresses as they may be shown.

Every room but frames may import it.
"""

from pipeline.settings.load import load
from pipeline.settings.redact import redact
from pipeline.settings.schema import (
    Config,
    EventSettings,
    IdentitySettings,
    InferenceSettings,
    LineSettings,
    ModelSettings,
    PublishSettings,
    RecordSettings,
    SmoothingSettings,
    StreamSettings,
    TrackingSettings,
    ZmqSettings,
    ZoneSettings,
)

__all__ = [
    "Config",
    "EventSettings",
    "IdentitySettings",
    "InferenceSettings",
    "LineSettings",
    "ModelSettings",
    "PublishSettings",
    "RecordSettings",
    "SmoothingSettings",
    "StreamSettings",
    "TrackingSettings",
    "ZmqSettings",
    "ZoneSettings",
    "load",
    "redact",
]
