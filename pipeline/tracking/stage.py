"""The stage that follows objects and faces over the frames of each stream, and tells whose face is whose."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from engines.arrays import Double, Luma, Rows
from engines.decode import Detections, Faces, Objects
from engines.spec import Thresholds
from pipeline.frames.picture import Picture
from pipeline.frames.turns import turns
from pipeline.frames.types import Carried, Frame, Observed, Skipped, Tracked, Tracks
from pipeline.settings.schema import TrackingSettings
from pipeline.tracking.association import by_coordinate, overlapping, solver
from pipeline.tracking.camera_motion import camera_motion, in_source, small_luma
from pipeline.tracking.face_links import Owners, link_faces
from pipeline.tracking.found import TrackerInput
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.update import NO_ROWS, NextFrame, TrackingRules, update_together

STAYED_IOU: Final = 0.3  # from which a detection is seen where something was shown


@dataclass(frozen=True, slots=True)
class _Last:
    """What was shown with a frame, without the frame: its picture's memory is not ours to keep."""

    detections: Detections
    objects: Tracks
    faces: Tracks
    links: Rows


class _StreamTracker:
    """Objects and faces of one stream, and whose face is whose."""

    def __init__(self, rules: TrackingRules, first_id: int) -> None:
        self.owners: Owners = {}
        self._tracker = Tracker(rules, first_id)
        self._last: _Last | None = None
        self._left_out = 0  # frames since the last that was inferred, by the inference rate
        self._steady = rules.settings.camera_motion
        self._luma: Luma | None = None
        self._seq: int | None = None  # of the last frame
        self._cut = False  # since the last frame that was tracked

    def begin(self, observed: Observed) -> NextFrame:
        """What is to be tracked in one frame; frames of the stream come in order."""
        frame, seen, faces = observed.frame, observed.detections.objects, observed.detections.faces
        self._note_cut(frame, observed.detections)
        labels = np.zeros(len(faces.scores), np.int32)
        given = TrackerInput(seen.boxes, seen.scores, seen.labels), TrackerInput(faces.boxes, faces.scores, labels)
        size, stands_for = (frame.picture.width, frame.picture.height), 1 + self._left_out
        motion = self._camera(frame.picture) if self._steady and not frame.between else None
        self._left_out = 0
        return NextFrame(self._tracker.state, frame.time_s, given, size, motion, stands_for)

    def end(self, observed: Observed, objects: Tracks, faces: Tracks, links: Rows) -> Tracked:
        """The frame with what was tracked in it."""
        tracked = Tracked.of(observed, objects, faces, links, cut=self._cut)
        self._cut = False
        self._last = _Last(observed.detections, objects, faces, links)
        return tracked

    def _camera(self, picture: Picture) -> Double | None:
        """How the camera moved since the last frame, in source pixels; None where that cannot be told."""
        before, self._luma = self._luma, small_luma(picture)
        motion = None if before is None else camera_motion(before, self._luma)
        return None if motion is None else in_source(motion, picture.width / self._luma.shape[1])

    def skip(self, item: Skipped) -> Tracked | None:
        """What was shown with the last frame that was inferred, for one that was not; None where there was none."""
        frame = item.frame
        self._note_cut(frame, None)
        if frame.between:
            self._left_out += 1
        else:
            self._tracker.carry(frame.time_s)
        if (last := self._last) is None:
            return None
        detections, objects, faces = last.detections, last.objects, last.faces
        if frame.between:
            size = frame.picture.width, frame.picture.height
            objects, faces = self._tracker.predicted(frame.time_s, objects, faces, size=size)
            detections = replace(detections, faces=_moved_faces(detections.faces, last.faces, faces))
        else:
            objects, faces = replace(objects, ended=NO_ROWS), replace(faces, ended=NO_ROWS)
        return Tracked(frame, detections, item.timestamps, objects, faces, last.links, carried=_carried(item))

    def _note_cut(self, frame: Frame, found: Detections | None) -> None:
        """Lose all tracks if another scene has begun since the last frame; ``found``: what is seen now, if known."""
        before, self._seq = self._seq, frame.seq
        if before is None or before >= max(frame.cut_seq, frame.doubtful_seq):
            return
        if frame.cut_seq > before or (found is not None and self._last is not None and _elsewhere(self._last, found)):
            self.lose()
            self._cut = True

    def lose(self) -> None:
        """The stream is interrupted: all tracks end with its next frame, and what it shows are new ones."""
        self._tracker.lose()
        self._last = self._luma = None


def _sure_scores(thresholds: Thresholds) -> tuple[float | Sequence[float], float]:
    """From which scores on objects and faces start tracks."""
    objects = thresholds.object_score if thresholds.object_scores is None else thresholds.object_scores
    return objects, thresholds.face_score


def _elsewhere(last: _Last, found: Detections) -> bool:
    """Whether something was shown and nothing is seen where it was, so that a doubtful picture is another scene."""
    pairs = [(last.objects.boxes, found.objects.boxes), (last.faces.boxes, found.faces.boxes)]
    if not any(len(shown) for shown, _ in pairs):
        return False
    near = (overlapping(by_coordinate(shown), by_coordinate(seen)) for shown, seen in pairs)
    return not any((each.ious >= STAYED_IOU).any() for each in near)


def _moved_faces(seen: Faces, before: Tracks, now: Tracks) -> Faces:
    """The faces of the last frame that was inferred, with the landmarks of those that are shown moved with them."""
    if not len(now.ids):
        return seen
    landmarks, rows = seen.landmarks.copy(), now.rows
    scale = (now.boxes[:, 2:] - now.boxes[:, :2]) / np.maximum(before.boxes[:, 2:] - before.boxes[:, :2], 1.0)
    landmarks[rows] = now.boxes[:, None, :2] + (landmarks[rows] - before.boxes[:, None, :2]) * scale[:, None]
    return replace(seen, landmarks=landmarks)


class Trackers:
    """The trackers of all streams.

    Args:
        settings: of every tracker.
        thresholds: scores from which a detection starts a track.
        person: label index of people, if the model has one.
        first_id: of the tracks of every stream; higher where lower ones have been used in this run.
    """

    def __init__(
        self, settings: TrackingSettings, thresholds: Thresholds, person: int | None, first_id: int = 1
    ) -> None:
        self._rules, self._person = TrackingRules(settings, *_sure_scores(thresholds)), person
        self._streams: defaultdict[str, _StreamTracker] = defaultdict(lambda: _StreamTracker(self._rules, first_id))
        solver()  # so that the first frame does not wait for it

    def tune(self, thresholds: Thresholds) -> None:
        """Let detections start tracks from other scores on, in every stream; those that there are go on."""
        self._rules.tune(*_sure_scores(thresholds))

    def update(self, items: Sequence[Observed | Skipped]) -> list[Tracked]:
        """Track the frames of a batch, those of a stream in order; in the same order.

        With a frame that was not inferred the stream's tracks are shown again: as they were where nothing has moved, so
        that what was seen last does not age by it, or where they are by then. The detections are those of the last
        frame that was inferred.
        """
        done = dict[int, Tracked]()
        for places in turns(items):
            self._update_each(done, [(place, items[place]) for place in places])
        return [done[place] for place in range(len(items))]

    def _update_each(self, done: dict[int, Tracked], items: Sequence[tuple[int, Observed | Skipped]]) -> None:
        """Track one frame of each of some streams; each comes and goes with its place in the batch."""
        rows = list[tuple[int, Observed, _StreamTracker]]()
        for place, item in items:
            stream = self._streams[item.frame.stream]
            if isinstance(item, Observed):
                rows.append((place, item, stream))
            elif (shown := stream.skip(item)) is not None:
                done[place] = shown
            else:  # what the network saw of the stream was lost in a crash, or another scene has begun
                rows.append((place, Observed(item.frame, _nothing(), item.timestamps, carried=_carried(item)), stream))
        if not rows:
            return
        found = update_together(self._rules, [stream.begin(observed) for _, observed, stream in rows])
        objects, faces = zip(*found, strict=True)
        links = link_faces([stream.owners for _, _, stream in rows], objects, faces, self._person)
        for (place, observed, stream), *tracks in zip(rows, objects, faces, links, strict=True):
            done[place] = stream.end(observed, *tracks)

    def begin(self, stream: str, first_id: int) -> None:
        """A stream of which no frame is under way begins anew; its tracks have numbers from ``first_id`` on."""
        self._streams[stream] = _StreamTracker(self._rules, first_id)

    def lose(self, stream: str) -> None:
        """A stream is interrupted: none of its tracks goes on, and their ends come with its next frame."""
        if stream in self._streams:
            self._streams[stream].lose()


def track(batches: Iterable[Sequence[Observed | Skipped]], trackers: Trackers) -> Iterator[list[Tracked]]:
    """Follow objects and faces over the frames of each stream, batch by batch."""
    for batch in batches:
        yield trackers.update(batch)


def _carried(item: Skipped) -> Carried:
    return "predicted" if item.frame.between else "unchanged"


def _nothing() -> Detections:
    boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    faces = Faces(boxes, scores, np.zeros((0, 5, 2), np.float32))
    return Detections(Objects(boxes, scores, np.zeros(0, np.int32)), faces, scores)
