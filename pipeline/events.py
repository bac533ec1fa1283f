"""What began, changed and ended from one frame to the next; pure state."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Literal

import msgspec

from pipeline.messages import EventMessage, FaceMessage, FrameMessage, IdentityMessage, ObjectMessage
from pipeline.types import Tracked

Box = tuple[float, float, float, float]
Kind = Literal["object", "face", "identity", "scene"]
Change = Literal["new", "changed", "ended"]

_track, _label = attrgetter("track"), attrgetter("label")


@dataclass(slots=True)
class _Face:
    best: FaceMessage
    worth: float  # of the best view
    box: Box  # where it was last
    identity: IdentityMessage | None = None

    @property
    def best_face(self) -> FaceMessage:
        """The best view under the name that the face bears now."""
        return msgspec.structs.replace(self.best, identity=self.identity)


@dataclass(slots=True)
class _Stream:
    objects: dict[int, ObjectMessage] = field(default_factory=dict)  # as each was last
    labels: dict[int, str] = field(default_factory=dict)
    faces: dict[int, _Face] = field(default_factory=dict)
    scene: str | None = None
    scene_score: float = 0.0


class EventLog:
    """Derives the events of all streams from the messages of their frames."""

    def __init__(self) -> None:
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)

    def update(self, frame: FrameMessage, tracked: Tracked) -> list[EventMessage]:
        """The events of one frame, ends before beginnings; frames of a stream come in order.

        A track is ``new`` with its first frame, ``changed`` when its smoothed label is another one, ``ended`` with
        the last it was known by. An identity begins when a face gets a name and ends when the name is taken back or the
        face ends. Face and identity events carry the best view of the face so far.

        Args:
            frame: the message of the frame.
            tracked: what it was made from: which tracks ended, and the scores of faces as they were before rounding.
        """
        stream = self._streams[frame.stream]
        return [
            *_scene_events(stream, frame),
            *_ended_objects(stream, frame, tracked.objects.ended.tolist()),
            *_ended_faces(stream, frame, tracked.faces.ended.tolist()),
            *_object_events(stream, frame),
            *_face_events(stream, frame, tracked.faces.scores.tolist()),
        ]


def _scene_events(stream: _Stream, frame: FrameMessage) -> Iterable[EventMessage]:
    known, last_score = stream.scene, stream.scene_score
    label, score = (frame.scene[0].label, frame.scene[0].score) if frame.scene else (None, 0.0)
    stream.scene, stream.scene_score = label, score
    if label == known:
        return
    if label is None:
        yield _event(frame, "ended", "scene", label=known, score=last_score)
    elif known is None:
        yield _event(frame, "new", "scene", label=label, score=score)
    else:
        yield _event(frame, "changed", "scene", label=label, previous=known, score=score)


def _ended_objects(stream: _Stream, frame: FrameMessage, ended: list[int]) -> Iterable[EventMessage]:
    for track in ended:
        if track in stream.objects:
            del stream.labels[track]
            yield _object_event(frame, "ended", stream.objects.pop(track))


def _object_events(stream: _Stream, frame: FrameMessage) -> Iterable[EventMessage]:
    objects = dict(zip(map(_track, frame.objects), frame.objects, strict=True))
    labels = dict(zip(objects, map(_label, frame.objects), strict=True))
    stream.objects.update(objects)
    changed = labels.items() - stream.labels.items()  # nothing, of most frames
    if not changed:
        return
    for track, label in labels.items():
        if (track, label) in changed:
            previous = stream.labels.get(track)
            yield _object_event(frame, "new" if previous is None else "changed", objects[track], previous)
    stream.labels.update(labels)


def _ended_faces(stream: _Stream, frame: FrameMessage, ended: list[int]) -> Iterable[EventMessage]:
    for track in ended:
        face = stream.faces.pop(track, None)
        if face is None:
            continue
        if face.identity:
            yield _identity_event(frame, "ended", face, face.identity)
        yield _face_event(frame, "ended", face)


def _face_events(stream: _Stream, frame: FrameMessage, scores: list[float]) -> Iterable[EventMessage]:
    for view, score in zip(frame.faces, scores, strict=True):
        worth = score * (view.box[3] - view.box[1])  # the best view is large and sure
        face = stream.faces.get(view.track)
        if face is None:
            face = stream.faces[view.track] = _Face(view, worth, view.box)
            yield _face_event(frame, "new", face)
        elif worth > face.worth:
            face.best, face.worth = view, worth
        face.box = view.box
        before, now = face.identity, view.identity
        face.identity = now
        if before and not now:
            yield _identity_event(frame, "ended", face, before)
        elif now and not before:
            yield _identity_event(frame, "new", face, now)
        elif now and before and now.name != before.name:
            yield _identity_event(frame, "changed", face, now, previous=before.name)


def _object_event(
    frame: FrameMessage, event: Change, thing: ObjectMessage, previous: str | None = None
) -> EventMessage:
    return _event(
        frame,
        event,
        "object",
        track=thing.track,
        label=thing.label,
        previous=previous,
        score=thing.score,
        box=thing.box,
    )


def _face_event(frame: FrameMessage, event: Change, face: _Face) -> EventMessage:
    best = face.best_face
    return _event(frame, event, "face", track=best.track, score=best.score, box=face.box, best_face=best)


def _identity_event(
    frame: FrameMessage,
    event: Change,
    face: _Face,
    identity: IdentityMessage,
    previous: str | None = None,
) -> EventMessage:
    best = face.best_face
    return _event(
        frame,
        event,
        "identity",
        track=best.track,
        label=identity.name,
        previous=previous,
        score=identity.score,
        box=face.box,
        best_face=best,
    )


def _event(
    frame: FrameMessage,
    event: Change,
    kind: Kind,
    *,
    score: float,
    track: int | None = None,
    label: str | None = None,
    previous: str | None = None,
    box: Box | None = None,
    best_face: FaceMessage | None = None,
) -> EventMessage:
    return EventMessage(
        stream=frame.stream,
        seq=frame.seq,
        captured_at=frame.captured_at,
        event=event,
        kind=kind,
        track=track,
        label=label,
        previous=previous,
        score=score,
        box=box,
        best_face=best_face,
    )
