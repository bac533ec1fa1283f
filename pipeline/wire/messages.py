"""The wire schema: what subscribers receive. Two-part ZeroMQ messages: topic ``<type>/<stream>``, then the body.

``python -m pipeline.wire docs/messages.schema.json`` writes the JSON Schema of all messages.
"""

import inspect
from typing import Any, Literal

import msgspec

from engines.errors import MessageError
from engines.undecodable import UNDECODABLE
from pipeline.frames.events import Cause, Direction, EventKind, EventName, PathPoint
from pipeline.frames.light import Light

Encoding = Literal["json", "msgpack"]
MessageType = Literal["frame", "event", "health"]


# gc=False: these hold no cycles, and a crowded frame makes enough of them to set off the garbage collector each time.


class ObjectMessage(msgspec.Struct, frozen=True, gc=False):
    """A tracked object; ``box`` is xyxy in source pixels, ``label`` is smoothed over time."""

    track: int
    label: str
    score: float
    box: tuple[float, float, float, float]


class IdentityMessage(msgspec.Struct, frozen=True, gc=False):
    """A name from the gallery; ``score`` is the cosine similarity."""

    name: str
    score: float


class FaceLabelMessage(msgspec.Struct, frozen=True, gc=False):
    """What a face is, smoothed over its track, and how sure that is, in [0, 1]."""

    label: str
    score: float


class FaceMessage(msgspec.Struct, frozen=True, gc=False):
    """A tracked face; ``object`` is the track of the person it belongs to.

    What a task of faces says is absent where the model has no such task, and until it has looked at the face.
    """

    track: int
    object: int | None
    score: float
    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    identity: IdentityMessage | None
    mask: FaceLabelMessage | msgspec.UnsetType = msgspec.UNSET  # how a face mask is worn: mask, no_mask, mask_wrong


class SceneMessage(msgspec.Struct, frozen=True, gc=False):
    """A scene label with its smoothed probability; ``where`` is absent where the model does not know it."""

    label: str
    score: float
    where: Literal["indoors", "outdoors"] | msgspec.UnsetType = msgspec.UNSET


class TimingsMessage(msgspec.Struct, frozen=True, gc=False):
    """Milliseconds from capture to message, and where they went."""

    queue: float
    infer: float
    post: float
    total: float


class FrameMessage(msgspec.Struct, frozen=True, tag_field="type", tag="frame", kw_only=True):
    """What was seen in one frame; ``dropped`` counts, by cause, the frames before it that were given up."""

    schema: Literal[1] = 1
    stream: str
    seq: int  # counts every frame the source gave; seq - sum(dropped) is the number of this message, from 0
    captured_at: str  # RFC 3339, UTC, milliseconds
    size: tuple[int, int]  # width, height
    objects: tuple[ObjectMessage, ...]
    faces: tuple[FaceMessage, ...]
    scene: tuple[SceneMessage, ...]
    timings_ms: TimingsMessage
    dropped: dict[str, int]
    # Of a frame that was not inferred: what the last one showed that was, or where its tracks have moved since.
    carried: Literal["unchanged", "predicted"] | msgspec.UnsetType = msgspec.UNSET
    light: Light | msgspec.UnsetType = msgspec.UNSET  # with models that tell kinds of place


class CropMessage(msgspec.Struct, frozen=True, gc=False):
    """A picture of a track; ``jpeg`` is base64 in JSON."""

    captured_at: str
    box: tuple[float, float, float, float]  # what it shows, in source pixels
    jpeg: bytes


class EventMessage(msgspec.Struct, frozen=True, tag_field="type", tag="event", kw_only=True):
    """Something began, changed or ended: an object, a face, an identity or the scene; or an object and a zone or line.

    docs/messages.md says which fields come with which event.
    """

    schema: Literal[1] = 1
    stream: str
    seq: int
    captured_at: str
    event: EventName
    kind: EventKind
    track: int | None = None  # None for the scene
    label: str | None = None  # the smoothed label, the name, the scene, or what the face is now
    previous: str | None = None  # for "changed"
    score: float | None = None
    box: tuple[float, float, float, float] | None = None
    best_face: FaceMessage | None = None  # on face and identity events: the best view so far
    first_seen: str | None = None  # RFC 3339, like captured_at
    last_seen: str | None = None
    duration_s: float | None = None  # stream time between the two
    best_score: float | None = None
    path: tuple[PathPoint, ...] | None = None  # of objects, faces and identities; at most 32 points
    best_crop: CropMessage | None = None  # of all but scenes, with events.best_crops
    cause: Cause | None = None  # for "ended" and "leave"
    name: str | None = None  # of the zone or line, or of the task by which a face changed
    direction: Direction | None = None  # for "cross"
    counts: dict[str, dict[str, int]] | None = None  # just after; zones: {"present": by label}, lines: by direction


class HealthMessage(msgspec.Struct, frozen=True, tag_field="type", tag="health", kw_only=True):
    """A stream came up, went down or ended, and why."""

    schema: Literal[1] = 1
    stream: str
    at: str
    state: Literal["up", "down", "ended"]
    cause: str
    captured: int = 0
    published: int = 0
    dropped: dict[str, int] = {}
    read: Literal["all", "part", "nothing"] | None = None  # of a file that ended: how much of it could be read
    sinks: dict[str, dict[str, int]] = {}  # messages of all streams that sinks of the run have lost, by cause


Message = FrameMessage | EventMessage | HealthMessage

_json_encoder = msgspec.json.Encoder()
_msgpack_encoder = msgspec.msgpack.Encoder()
_json_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_msgpack_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode(message: Message, encoding: Encoding) -> bytes:
    """The body of a message. Floats must be finite: JSON has no others."""
    return _json_encoder.encode(message) if encoding == "json" else _msgpack_encoder.encode(message)


def decode(body: bytes) -> Message:
    """The message in a body; JSON and MessagePack are told apart by the first byte.

    Raises:
        MessageError: the body is neither, or does not follow the schema.
    """
    try:
        if body[:1] == b"{":
            return _json_decoder.decode(body)
        if _begins_msgpack_map(body):
            return _msgpack_decoder.decode(body)
    except UNDECODABLE as error:
        raise MessageError(f"a message does not follow the schema: {error}") from error
    raise MessageError(f"a message begins with {body[:1]!r}, which is neither JSON nor MessagePack")


def _begins_msgpack_map(body: bytes) -> bool:
    # fixmap, map 16, map 32 of the MessagePack specification; none of them is an ASCII character.
    return bool(body) and (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF))


def topic(message: Message) -> bytes:
    """First part of the two: ``frame/<stream>``, ``event/<stream>`` or ``health/<stream>``."""
    return f"{message.__struct_config__.tag}/{message.stream}".encode()


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a message, generated from the structs above."""
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Trunkline messages, schema 1"}
    schema: dict[str, Any] = about | msgspec.json.schema(Message)
    for definition in schema["$defs"].values():  # docstrings: msgspec keeps their indentation in some of its versions
        if "description" in definition:
            definition["description"] = inspect.cleandoc(definition["description"])
    return schema
