"""Trunkline from the outside: the subscriber and its messages, the client of the page's API, and their errors.

Needs msgspec and pyzmq alone, which is what ``pip install trunkline`` brings; what runs a pipeline comes with the extra
``run``.

>>> from trunkline import FrameMessage, Subscriber
>>> for message in Subscriber("tcp://127.0.0.1:5555", streams=["door"]):  # doctest: +SKIP
...     if isinstance(message, FrameMessage):
...         print([face.identity.name for face in message.faces if face.identity])
"""

from engines.errors import ConfigError, MessageError, RequestError, TrunklineError
from pipeline.frames.events import Cause, EventKind, EventName
from pipeline.wire.async_client import AsyncSubscriber
from pipeline.wire.client import Subscriber
from pipeline.wire.convert import to_coco, to_detections
from pipeline.wire.messages import (
    CropMessage,
    EventMessage,
    FaceMessage,
    FrameMessage,
    HealthMessage,
    IdentityMessage,
    Message,
    MessageType,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
    decode,
)
from pipeline.wire.rest import (
    EventPage,
    EventReport,
    LatencyReport,
    ReloadReport,
    RestClient,
    StreamChange,
    StreamReport,
)

__version__ = "0.1.0"

__all__ = [
    "AsyncSubscriber",
    "Cause",
    "ConfigError",
    "CropMessage",
    "EventKind",
    "EventMessage",
    "EventName",
    "EventPage",
    "EventReport",
    "FaceMessage",
    "FrameMessage",
    "HealthMessage",
    "IdentityMessage",
    "LatencyReport",
    "Message",
    "MessageError",
    "MessageType",
    "ObjectMessage",
    "ReloadReport",
    "RequestError",
    "RestClient",
    "SceneMessage",
    "StreamChange",
    "StreamReport",
    "Subscriber",
    "TimingsMessage",
    "TrunklineError",
    "__version__",
    "decode",
    "to_coco",
    "to_detections",
]
