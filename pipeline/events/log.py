"""What began, changed and ended from one frame to the next, and who went into zones and across lines; pure state."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from engines.meanings import NONE_OF_THESE
from pipeline.events.crops import FACE_MARGIN, BestCrops
from pipeline.events.history import FaceViews, TrackHistory, TrackRecord
from pipeline.events.zones import Timestamp, ZoneCounter, ZoneEvent
from pipeline.frames.events import BestFace, Cause, Event, TrackCrop
from pipeline.frames.rounding import rounded
from pipeline.frames.types import Counts, FaceLabel, Identity, Result

Change = Literal["new", "changed", "ended"]

# A track that was not seen in so many inferred frames is over, whether or not anybody said so.
SILENT_UPDATES: Final = 10
LOOK_FRAMES: Final = 32  # between two looks for such


@dataclass(slots=True)
class _ActiveLabel:
    """A name of a face, or a scene, for as long as it is the same."""

    label: str
    since: Timestamp
    score: float
    best_score: float
    after_s: float = 0.0  # since the face was first seen


class StreamEvents:
    """The events of one stream, with its zones and lines, if any; else as of :class:`EventLog`."""

    def __init__(
        self,
        stream: str,
        labels: tuple[str, ...],
        scenes: tuple[str, ...],
        places: ZoneCounter | None,
        crops: bool,
        patience_s: float,
    ) -> None:
        self._stream, self._labels, self._scenes = stream, labels, scenes
        self._places, self._patience_s = places, patience_s
        self._objects, self._faces = TrackHistory(foot=True), TrackHistory(foot=False)
        self._object_crops, self._face_crops = BestCrops(), BestCrops(FACE_MARGIN)
        self._crops = crops
        self._names: dict[int, _ActiveLabel] = {}  # of faces
        self._face_labels: defaultdict[int, dict[str, FaceLabel]] = defaultdict(dict)  # of faces, by task
        self._shown: tuple[bytes, tuple[Identity | None, ...]] = (b"", ())  # faces and their names in the last frame
        self._scene: _ActiveLabel | None = None
        self._seq, self._now = 0, Timestamp(0, 0.0)
        self._frames = 0

    def update(self, result: Result) -> list[Event]:
        """The events of one frame; see :meth:`EventLog.update`."""
        frame, objects, faces = result.frame, result.objects, result.faces
        self._seq, self._now = frame.seq, Timestamp(frame.captured_ns, frame.time_s)
        if result.carried == "predicted":  # where things are thought to be is no evidence: the next frame tells
            return []
        events = self.end("cut") if result.cut else []
        events += self._scene_events(result)
        if len(objects.ended):
            events += self._end_objects(objects.ended.tolist(), "gone")
        if len(faces.ended):
            events += self._end_faces(faces.ended.tolist(), "gone")
        self._frames += 1
        if self._frames % LOOK_FRAMES == 0:  # for what a crash has swallowed the end of
            patience = frame.time_s, self._patience_s, SILENT_UPDATES
            events += self._end_objects(self._objects.silent(*patience), "gone")
            events += self._end_faces(self._faces.silent(*patience), "gone")
        if self._crops:
            seen = frame.picture, frame.captured_ns
            self._object_crops.look(*seen, objects.ids, objects.boxes, result.label_scores)
            self._face_crops.look(*seen, faces.ids, faces.boxes, faces.scores)
        events += self._begun_objects(result)
        events += self._begun_faces(result)
        if self._places is not None:
            size = frame.picture.width, frame.picture.height
            moved = self._places.update(self._now, size, objects.ids, objects.boxes, result.labels)
            events += map(self._movement_event, moved)
        return events

    def end(self, cause: Cause) -> list[Event]:
        """Everything is over."""
        events = [*self._end_objects(self._objects.ids, cause), *self._end_faces(self._faces.ids, cause)]
        self._shown = (b"", ())
        if self._scene is not None:
            events.append(self._scene_event("ended", self._scene, cause=cause))
            self._scene = None
        return events

    def _scene_events(self, result: Result) -> Iterator[Event]:
        before, row = self._scene, result.scene_label
        if row < 0 or self._scenes[row] == NONE_OF_THESE:  # that no known scene is seen is the end of one, and no other
            if before is not None:
                self._scene = None
                yield self._scene_event("ended", before, cause="withdrawn")
            return
        label, score = self._scenes[row], round(float(result.scene[row]), 3)
        if before is not None and before.label == label:
            before.score, before.best_score = score, max(before.best_score, score)
        else:
            self._scene = _ActiveLabel(label, self._now, score, score)
            previous = None if before is None else before.label
            yield self._scene_event("new" if before is None else "changed", self._scene, previous)

    def _begun_objects(self, result: Result) -> Iterator[Event]:
        """Objects that are new or have another label; the frame is noted."""
        seen, scores, skipped = result.objects, result.label_scores, result.skipped
        begun = self._objects.note(self._now, seen.ids, seen.boxes, scores, result.labels, skipped)
        for row in begun.new:
            yield self._object_event("new", int(seen.ids[row]))
        for row, previous in zip(begun.changed, begun.previous, strict=True):
            yield self._object_event("changed", int(seen.ids[row]), self._labels[previous])

    def _begun_faces(self, result: Result) -> Iterator[Event]:
        """Faces that are new, and those whose name began, changed or ended; the frame is noted."""
        names, seen, found = result.identities, result.faces, result.detections.faces
        views = FaceViews(found.landmarks, seen.rows, result.face_objects)
        begun = self._faces.note(self._now, seen.ids, seen.boxes, seen.scores, views, result.skipped)
        for row in begun.new:
            yield self._face_event("new", int(seen.ids[row]))
        shown = seen.ids.tobytes(), names
        if shown != self._shown:  # as with every new view, and never between them
            self._shown = shown
            yield from self._name_events(seen.ids.tolist(), names)
        for task, labels in result.face_labels.items():
            yield from self._label_events(task, seen.ids.tolist(), labels)

    def _end_objects(self, tracks: list[int], cause: Cause) -> list[Event]:
        known = set(self._objects.ids)
        over = [track for track in dict.fromkeys(tracks) if track in known]
        if not over:
            return []
        moved = [] if self._places is None else self._places.ended(np.array(over), cause)
        events = [*map(self._movement_event, moved), *(self._object_event("ended", each, cause=cause) for each in over)]
        self._objects.forget(over)
        for track in over:
            self._object_crops.forget(track)
        return events

    def _end_faces(self, tracks: list[int], cause: Cause) -> list[Event]:
        known = set(self._faces.ids)
        over = [track for track in dict.fromkeys(tracks) if track in known]
        events = []
        for track in over:
            if track in self._names:
                events.append(self._name_event("ended", track, self._names[track], cause=cause))
            events.append(self._face_event("ended", track, cause=cause))
            self._names.pop(track, None)
            self._face_labels.pop(track, None)
            self._face_crops.forget(track)
        if over:
            self._faces.forget(over)
        return events

    def _name_events(self, tracks: list[int], identities: tuple[Identity | None, ...]) -> Iterator[Event]:
        for track, identity in zip(tracks, identities, strict=True):
            before = self._names.get(track)
            if identity is None:
                if before is not None:
                    yield self._name_event("ended", track, self._names.pop(track), cause="withdrawn")
                continue
            score = round(float(identity.score), 3)
            if before is not None and before.label == identity.name:
                before.score, before.best_score = score, max(before.best_score, score)
                continue
            after_s = self._faces.of(track).duration_s
            name = self._names[track] = _ActiveLabel(identity.name, self._now, score, score, after_s)
            previous = None if before is None else before.label
            yield self._name_event("new" if before is None else "changed", track, name, previous)

    def _label_events(self, task: str, tracks: list[int], labels: tuple[FaceLabel | None, ...]) -> Iterator[Event]:
        """Faces that are something else now by a task of faces, or that it says something of for the first time."""
        for track, label in zip(tracks, labels, strict=True):
            if label is None:
                continue
            before = self._face_labels[track].get(task)
            self._face_labels[track][task] = replace(label, score=round(label.score, 3))
            if before is None or before.label != label.label:
                previous = None if before is None else before.label
                yield replace(self._face_event("changed", track), label=label.label, previous=previous, name=task)

    def _object_event(
        self, event: Change, track: int, previous: str | None = None, cause: Cause | None = None
    ) -> Event:
        known, label = self._objects.of(track), self._labels[self._objects.label(track)]
        crop = self._object_crops.of(track)
        return self._track_event(event, "object", track, known, known.score, label, previous, crop=crop, cause=cause)

    def _face_event(self, event: Change, track: int, cause: Cause | None = None) -> Event:
        known, crop = self._faces.of(track), self._face_crops.of(track)
        best = self._best_face(track, known)
        return self._track_event(event, "face", track, known, best.score, best_face=best, crop=crop, cause=cause)

    def _name_event(
        self, event: Change, track: int, name: _ActiveLabel, previous: str | None = None, cause: Cause | None = None
    ) -> Event:
        whole, crop = self._faces.of(track, name.after_s), self._face_crops.of(track)
        known = replace(
            whole,
            first_ns=name.since.at_ns,
            duration_s=max(0.0, whole.duration_s - name.after_s),
            best_score=name.best_score,
        )
        best = self._best_face(track, whole)
        return self._track_event(
            event, "identity", track, known, name.score, name.label, previous, best_face=best, crop=crop, cause=cause
        )

    def _best_face(self, track: int, known: TrackRecord) -> BestFace:
        """The best view under the name that the face bears now."""
        view, name = known.best_view, self._names.get(track)
        assert view is not None, "a face that is followed has been seen"
        x0, y0, x1, y1 = rounded(view.box, 1).tolist()
        return BestFace(
            track=track,
            object=view.owner or None,
            score=float(rounded(view.score, 3)),
            box=(x0, y0, x1, y1),
            landmarks=tuple((x, y) for x, y in rounded(view.landmarks, 1).tolist()),
            identity=None if name is None else Identity(name.label, name.score),
            labels=dict(self._face_labels.get(track, {})),
        )

    def _track_event(
        self,
        event: Change,
        kind: Literal["object", "face", "identity"],
        track: int,
        known: TrackRecord,
        score: float,
        label: str | None = None,
        previous: str | None = None,
        *,
        best_face: BestFace | None = None,
        crop: TrackCrop | None,
        cause: Cause | None,
    ) -> Event:
        return Event(
            stream=self._stream,
            seq=self._seq,
            at_ns=self._now.at_ns,
            event=event,
            kind=kind,
            track=track,
            label=label,
            previous=previous,
            score=score,
            box=known.box,
            best_face=best_face,
            first_ns=known.first_ns,
            last_ns=known.last_ns,
            duration_s=round(known.duration_s, 3),
            best_score=known.best_score,
            path=known.path,
            best_crop=crop,
            cause=cause,
        )

    def _scene_event(
        self, event: Change, scene: _ActiveLabel, previous: str | None = None, cause: Cause | None = None
    ) -> Event:
        return Event(
            stream=self._stream,
            seq=self._seq,
            at_ns=self._now.at_ns,
            event=event,
            kind="scene",
            label=scene.label,
            previous=previous,
            score=scene.score,
            first_ns=scene.since.at_ns,
            last_ns=self._now.at_ns,
            duration_s=_seconds(scene.since, self._now),
            best_score=scene.best_score,
            cause=cause,
        )

    def _movement_event(self, movement: ZoneEvent) -> Event:
        box, score = self._objects.last(movement.track)
        return Event(
            stream=self._stream,
            seq=self._seq,
            at_ns=self._now.at_ns,
            event=movement.event,
            kind=movement.kind,
            track=movement.track,
            label=movement.label,
            score=score,
            box=box,
            first_ns=movement.since.at_ns,
            last_ns=movement.until.at_ns,
            duration_s=_seconds(movement.since, movement.until),
            best_crop=self._object_crops.of(movement.track),
            cause=movement.cause,
            name=movement.name,
            direction=movement.direction,
            counts=movement.counts,
        )


class EventLog:
    """Derives the events of all streams from their finished frames.

    Args:
        labels: of objects, in the order of the network's classes.
        scenes: of scenes, likewise.
        places: the zones and lines of the streams that have any.
        crops: whether events carry the best view of a track as a picture.
        patience_s: stream time after which a track that is not seen any more has ended though its end was lost.
    """

    def __init__(
        self,
        labels: tuple[str, ...],
        scenes: tuple[str, ...],
        places: Mapping[str, ZoneCounter] | None = None,
        crops: bool = False,
        patience_s: float = 6.0,
    ) -> None:
        self._labels, self._scenes, self._places = labels, scenes, dict(places or {})
        self._crops, self._patience_s = crops, patience_s
        self._streams: dict[str, StreamEvents] = {}

    def update(self, result: Result) -> list[Event]:
        """The events of one frame, ends before beginnings; frames of a stream come in order.

        A track is ``new`` with its first frame, ``changed`` when its smoothed label is another one, ``ended`` with
        the last it was known by. An identity begins when a face gets a name and ends when the name is taken back or the
        face ends. Face and identity events carry the best view of the face so far. What an object does in zones and
        on lines comes after its ``new`` and before its ``ended``.
        """
        name = result.frame.stream
        stream = self._streams.get(name)
        if stream is None:
            places = self._places.get(name)
            stream = StreamEvents(name, self._labels, self._scenes, places, self._crops, self._patience_s)
            self._streams[name] = stream
        return stream.update(result)

    def begin(self, stream: str, places: ZoneCounter | None) -> None:
        """A stream is added, with its zones and lines, if any."""
        self.forget(stream)
        if places is not None:
            self._places[stream] = places

    def forget(self, stream: str) -> None:
        """A stream that has ended was removed."""
        self._streams.pop(stream, None)
        self._places.pop(stream, None)

    @property
    def streams(self) -> tuple[str, ...]:
        """Those that had a frame."""
        return tuple(self._streams)

    def counts(self, stream: str) -> dict[str, Counts]:
        """Of each of a stream's zones who is in it, of each of its lines how many went across."""
        places = self._places.get(stream)
        return {} if places is None else places.counts()

    def end(self, stream: str, cause: Cause) -> list[Event]:
        """The end of everything that a stream has told of, as of its last frame.

        The tracks that were followed must be followed no more: a number that comes again would be new again.
        """
        known = self._streams.get(stream)
        return [] if known is None else known.end(cause)


def _seconds(since: Timestamp, until: Timestamp) -> float:
    return round(max(0.0, until.time_s - since.time_s), 3)
