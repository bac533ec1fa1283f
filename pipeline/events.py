"""What began, changed and ended from one frame to the next; pure state."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from pipeline.messages import EventMessage, FaceMessage, IdentityMessage, timestamp
from pipeline.types import Frame, Identity, Result

Box = tuple[float, float, float, float]
Kind = Literal["object", "face", "identity", "scene"]
Change = Literal["new", "changed", "ended"]


@dataclass(slots=True)
class _Object:
    label: str
    score: float
    box: Box


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
    objects: dict[int, _Object] = field(default_factory=dict)
    faces: dict[int, _Face] = field(default_factory=dict)
    scene: str | None = None
    scene_score: float = 0.0


class EventLog:
    """Derives the events of all streams from their finished frames.

    Args:
        objects: labels of the object classes.
        scenes: labels of the scenes.
    """

    def __init__(self, objects: tuple[str, ...], scenes: tuple[str, ...]) -> None:
        self._objects = objects
        self._scenes = scenes
        self._streams: defaultdict[str, _Stream] = defaultdict(_Stream)

    def update(self, result: Result) -> list[EventMessage]:
        """The events of one frame, ends before beginnings; frames of a stream come in order.

        A track is ``new`` with its first frame, ``changed`` when its smoothed label is another one, ``ended`` with
        the last it was known by. An identity begins when a face gets a name and ends when the name is taken back or the
        face ends. Face and identity events carry the best view of the face so far.
        """
        stream = self._streams[result.frame.stream]
        return [
            *self._scene_events(stream, result),
            *_ended_objects(stream, result),
            *_ended_faces(stream, result),
            *self._object_events(stream, result),
            *_face_events(stream, result),
        ]

    def _scene_events(self, stream: _Stream, result: Result) -> Iterable[EventMessage]:
        known, last_score = stream.scene, stream.scene_score
        label, score = None, 0.0
        if result.scene_label >= 0:
            label, score = self._scenes[result.scene_label], _score(result.scene[result.scene_label])
        stream.scene, stream.scene_score = label, score
        if label == known:
            return
        if label is None:
            yield _event(result.frame, "ended", "scene", label=known, score=last_score)
        elif known is None:
            yield _event(result.frame, "new", "scene", label=label, score=score)
        else:
            yield _event(result.frame, "changed", "scene", label=label, previous=known, score=score)

    def _object_events(self, stream: _Stream, result: Result) -> Iterable[EventMessage]:
        tracks = result.identified.tracked.objects
        columns = zip(
            tracks.ids.tolist(),
            result.labels.tolist(),
            result.label_scores.tolist(),
            tracks.boxes.tolist(),
            strict=True,
        )
        for track, label, score, box in columns:
            known = stream.objects.get(track)
            now = stream.objects[track] = _Object(self._objects[label], _score(score), _box(box))
            if known is None:
                yield _object_event(result.frame, "new", track, now)
            elif known.label != now.label:
                yield _object_event(result.frame, "changed", track, now, previous=known.label)


def _ended_objects(stream: _Stream, result: Result) -> Iterable[EventMessage]:
    for track in result.identified.tracked.objects.ended.tolist():
        if track in stream.objects:
            yield _object_event(result.frame, "ended", track, stream.objects.pop(track))


def _ended_faces(stream: _Stream, result: Result) -> Iterable[EventMessage]:
    for track in result.identified.tracked.faces.ended.tolist():
        face = stream.faces.pop(track, None)
        if face is None:
            continue
        if face.identity:
            yield _identity_event(result.frame, "ended", face, face.identity)
        yield _face_event(result.frame, "ended", face)


def _face_events(stream: _Stream, result: Result) -> Iterable[EventMessage]:
    for row, identity in enumerate(result.identified.identities):
        track = int(result.identified.tracked.faces.ids[row])
        known = stream.faces.get(track)
        face = stream.faces[track] = _with_view(known, result, row)
        if known is None:
            yield _face_event(result.frame, "new", face)
        before, now = face.identity, _identity(identity)
        face.identity = now
        if before and not now:
            yield _identity_event(result.frame, "ended", face, before)
        elif now and not before:
            yield _identity_event(result.frame, "new", face, now)
        elif now and before and now.name != before.name:
            yield _identity_event(result.frame, "changed", face, now, previous=before.name)


def _with_view(face: _Face | None, result: Result, row: int) -> _Face:
    """The face with the view of this row, should it be the best one so far: large and sure."""
    tracks = result.identified.tracked.faces
    box = _box(tracks.boxes[row].tolist())
    worth = float(tracks.scores[row]) * (box[3] - box[1])
    if face is None:
        return _Face(_view(result, row, box), worth, box)
    face.box = box
    if worth > face.worth:
        face.best, face.worth = _view(result, row, box), worth
    return face


def _view(result: Result, row: int, box: Box) -> FaceMessage:
    tracked = result.identified.tracked
    tracks = tracked.faces
    landmarks = tracked.observed.detections.faces.landmarks[tracks.rows[row]].tolist()
    return FaceMessage(
        track=int(tracks.ids[row]),
        object=int(tracked.face_objects[row]) or None,
        score=_score(tracks.scores[row]),
        box=box,
        landmarks=tuple((round(x, 1), round(y, 1)) for x, y in landmarks),
        identity=None,
    )


def _object_event(frame: Frame, event: Change, track: int, thing: _Object, previous: str | None = None) -> EventMessage:
    return _event(
        frame, event, "object", track=track, label=thing.label, previous=previous, score=thing.score, box=thing.box
    )


def _face_event(frame: Frame, event: Change, face: _Face) -> EventMessage:
    best = face.best_face
    return _event(frame, event, "face", track=best.track, score=best.score, box=face.box, best_face=best)


def _identity_event(
    frame: Frame,
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
    frame: Frame,
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
        captured_at=timestamp(frame.captured_ns),
        event=event,
        kind=kind,
        track=track,
        label=label,
        previous=previous,
        score=score,
        box=box,
        best_face=best_face,
    )


def _identity(identity: Identity | None) -> IdentityMessage | None:
    return IdentityMessage(identity.name, _score(identity.score)) if identity else None


def _score(score: float) -> float:
    return round(float(score), 3)


def _box(corners: list[float]) -> Box:
    x0, y0, x1, y1 = (round(corner, 1) for corner in corners)
    return x0, y0, x1, y1
