"""What the events room finds: plain values, which the wire turns into messages and the event store into rows.

Without NumPy, since the schema of messages, which subscribers load, takes its words from here.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.frames.types import Counts, FaceLabel, Identity

EventName = Literal["new", "changed", "ended", "enter", "leave", "dwell", "cross"]
EventKind = Literal["object", "face", "identity", "scene", "zone", "line"]
Direction = Literal["a_to_b", "b_to_a"]

# left: it went out of a zone. gone: not seen any more. withdrawn: the name or the scene no longer holds. cut: the
# picture shows another scene. down: its stream was lost. stopped: its stream or the run ended. crash: what followed it
# was killed.
Cause = Literal["left", "gone", "withdrawn", "cut", "down", "stopped", "crash"]

# Seconds since the first point, and x, y in source pixels: the middle of an object's lower edge, or of a face.
PathPoint = tuple[float, float, float]
Box = tuple[float, float, float, float]  # xyxy in source pixels


@dataclass(frozen=True, slots=True)
class BestFace:
    """The best view of a face so far, under the name that the face bears now; pixels have 1 decimal, scores 3."""

    track: int
    object: int | None  # track of the person it belongs to
    score: float
    box: Box
    landmarks: tuple[tuple[float, float], ...]
    identity: "Identity | None"
    labels: "Mapping[str, FaceLabel]"  # by task of faces: what it is now


@dataclass(frozen=True, slots=True)
class TrackCrop:
    """The best view of a track as a picture."""

    at_ns: int  # Unix time
    box: Box  # what it shows
    jpeg: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something began, changed or ended; docs/messages.md says which fields come with which event.

    Pixels have 1 decimal, scores and durations 3; times of day are Unix time in nanoseconds.
    """

    stream: str
    seq: int  # of the frame it came with
    at_ns: int  # when that was captured
    event: EventName
    kind: EventKind
    track: int | None = None  # None for the scene
    label: str | None = None  # the smoothed label, the name, the scene, or what the face is now
    previous: str | None = None  # for "changed"
    score: float | None = None
    box: Box | None = None
    best_face: BestFace | None = None  # on face and identity events
    first_ns: int | None = None
    last_ns: int | None = None
    duration_s: float | None = None  # stream time between the two
    best_score: float | None = None
    path: tuple[PathPoint, ...] | None = None  # of objects, faces and identities
    best_crop: TrackCrop | None = None  # of those, where wanted
    cause: Cause | None = None  # for "ended" and "leave"
    name: str | None = None  # of the zone or line, or of the task by which a face changed
    direction: Direction | None = None  # for "cross"
    counts: "Counts | None" = None  # just after; zones: {"present": by label}, lines: by direction
