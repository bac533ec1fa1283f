"""Trunkline from the outside: the subscriber, its messages and its errors.

Needs msgspec and pyzmq alone, which is what ``pip install trunkline`` brings; what runs a pipeline comes with the extra
``run``.

>>> from trunkline import FrameMessage, Subscriber
>>> for message in Subscriber("tcp://127.0.0.1:5555", streams=["door"]):  # doctest: +SKIP
...     if isinstance(message, FrameMessage):
...         print([face.identity.name for face in message.faces if face.identity])
"""

from engines.errors import ConfigError, MessageError, TrunklineError
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

__version__ = "0.1.0"

__all__ = [
    "AsyncSubscriber",
    "Cause",
    "ConfigError",
    "CropMessage",
    "EventKind",
    "EventMessage",
    "EventName",
    "FaceMessage",
    "FrameMessage",
    "HealthMessage",
    "IdentityMessage",
    "Message",
    "MessageError",
    "MessageType",
    "ObjectMessage",
    "SceneMessage",
    "Subscriber",
    "TimingsMessage",
    "TrunklineError",
    "__version__",
    "decode",
    "to_coco",
    "to_detections",
]
