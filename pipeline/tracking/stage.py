"""The stage that follows objects and faces over the frames of each stream, and tells whose face is whose."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.arrays import Double, Luma, Rows
from engines.decode import Detections, Faces, Objects
from engines.spec import Thresholds
from pipeline.frames.picture import Picture
from pipeline.frames.types import Carried, Frame, Observed, Skipped, Timestamps, Tracked, Tracks
from pipeline.settings.schema import TrackingSettings
from pipeline.tracking.association import best, by_coordinate, overlapping, touching
from pipeline.tracking.camera_motion import camera_motion, in_source, small_luma
from pipeline.tracking.found import TrackerInput
from pipeline.tracking.tracker import Tracker

UPPER_SHARE = 0.6  # the part of a person's box, from the top, in which a face is looked for
MIN_INSIDE = 0.5  # share of a face that must lie in there
STAYED_IOU = 0.3  # from which a detection is seen where something was shown
STAY = 1.25  # how much better another person must fit before a face changes over


@dataclass(frozen=True, slots=True)
class _Last:
    """What was shown with a frame, without the frame: its picture's memory is not ours to keep."""

    detections: Detections
    timestamps: Timestamps
    objects: Tracks
    faces: Tracks
    links: Rows


class StreamTracker:
    """Objects and faces of one stream, and whose face is whose."""

    def __init__(self, settings: TrackingSettings, thresholds: Thresholds, person: int | None, first_id: int) -> None:
        self._tracker = Tracker(settings, *_sure_scores(thresholds), first_id=first_id)
        self._person = person
        self._owners: dict[int, int] = {}  # face track -> the person's track
        self._last: _Last | None = None
        self._left_out = 0  # frames since the last that was inferred, by the inference rate
        self._steady = settings.camera_motion
        self._luma: Luma | None = None
        self._seq: int | None = None  # of the last frame
        self._cut = False  # since the last frame that was tracked

    def tune(self, thresholds: Thresholds) -> None:
        """Let detections start tracks from other scores on; those that there are go on."""
        self._tracker.tune(*_sure_scores(thresholds))

    def update(self, observed: Observed) -> Tracked:
        """Track one frame; frames of the stream come in order."""
        picture, seen, faces_seen = observed.frame.picture, observed.detections.objects, observed.detections.faces
        self._note_cut(observed.frame, observed.detections)
        objects, faces = self._tracker.update(
            observed.frame.time_s,
            TrackerInput(seen.boxes, seen.scores, seen.labels),
            TrackerInput(faces_seen.boxes, faces_seen.scores, np.zeros(len(faces_seen.boxes), np.int32)),
            size=(picture.width, picture.height),
            motion=self._camera(picture) if self._steady and not observed.frame.between else None,
            stands_for=1 + self._left_out,
        )
        self._left_out = 0
        tracked = Tracked.of(observed, objects, faces, self._link(objects, faces), cut=self._cut)
        self._cut = False
        self._last = _Last(observed.detections, observed.timestamps, objects, faces, tracked.face_objects)
        return tracked

    def _camera(self, picture: Picture) -> Double | None:
        """How the camera moved since the last frame, in source pixels; None where that cannot be told."""
        before, self._luma = self._luma, small_luma(picture)
        motion = None if before is None else camera_motion(before, self._luma)
        return None if motion is None else in_source(motion, picture.width / self._luma.shape[1])

    def carry(self, frame: Frame) -> Tracked | None:
        """What was shown with the last frame that was inferred, for a frame in which nothing has moved since."""
        self._note_cut(frame, None)
        self._tracker.carry(frame.time_s)
        if self._last is None:
            return None
        last, none = self._last, np.zeros(0, np.int64)
        return Tracked(
            frame,
            last.detections,
            last.timestamps,
            replace(last.objects, ended=none),
            replace(last.faces, ended=none),
            last.links,
        )

    def predict(self, frame: Frame) -> Tracked | None:
        """What was shown with the last frame that was inferred, where its motion has taken it by this frame."""
        self._note_cut(frame, None)
        self._left_out += 1
        if self._last is None:
            return None
        last, size = self._last, (frame.picture.width, frame.picture.height)
        objects, faces = self._tracker.predicted(frame.time_s, last.objects, last.faces, size=size)
        detections = replace(last.detections, faces=_moved_faces(last.detections.faces, last.faces, faces))
        return Tracked(frame, detections, last.timestamps, objects, faces, last.links)

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

    def _link(self, objects: Tracks, faces: Tracks) -> Rows:
        """The person (id) of each face, 0 for none; a person has one face."""
        for ended in faces.ended.tolist():
            self._owners.pop(ended, None)
        links = np.zeros(len(faces.ids), np.int64)
        if not len(links) or not len(objects.ids):
            return links
        known: list[int] = faces.ids.tolist()
        owners = np.array([self._owners.get(face, 0) for face in known], np.int64)
        # A person whose label flickers in this frame stays a person for the face that is already linked.
        wanted = (owners[:, None] == objects.ids).any(axis=0)
        if self._person is not None:
            wanted |= objects.labels == self._person
        (people,) = wanted.nonzero()
        ids, heads, bodies = objects.ids.take(people), by_coordinate(faces.boxes), by_coordinate(objects.boxes)
        bodies = bodies.take(people, 1)
        rows, columns = touching(heads, bodies)
        fit = face_fit(heads.take(rows, 1), bodies.take(columns, 1))
        fit[owners.take(rows) == ids.take(columns)] *= STAY
        (good,) = fit.nonzero()
        rows, columns = rows.take(good), columns.take(good)
        (good,) = best(rows, columns, fit.take(good), (len(links), len(ids))).nonzero()
        links[rows.take(good)] = ids.take(columns.take(good))
        self._owners.update((face, link) for face, link in zip(known, links.tolist(), strict=True) if link)
        return links


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


def face_fit(faces: Double, people: Double) -> Double:
    """How well each face (4, K) sits where the head of its person (4, K) should be: (K,), 0, not at all, to 1.

    Boxes are xyxy. The share of the face that lies in the upper part of the person counts, less the further it is
    from the middle of the upper edge.
    """
    (left, top, right, _), (a, b, c, _) = faces, people
    (width, height), far = people[2:] - people[:2], people[2:].copy()
    far[1] = b + UPPER_SHARE * height
    common, sides = np.minimum(faces[2:], far) - np.maximum(faces[:2], people[:2]), faces[2:] - faces[:2]
    np.maximum(common, 0.0, out=common)
    inside = common[0] * common[1] / (sides[0] * sides[1])
    aside = np.abs(left + right - a - c) / (2 * width)
    below = np.abs(top - b) / height
    return np.asarray(np.where(inside >= MIN_INSIDE, inside / (1 + aside + below), 0.0), np.float64)


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
        self._thresholds = thresholds
        self._streams: defaultdict[str, StreamTracker] = defaultdict(
            lambda: StreamTracker(settings, self._thresholds, person, first_id)
        )

    def tune(self, thresholds: Thresholds) -> None:
        """Let detections start tracks from other scores on, in every stream."""
        self._thresholds = thresholds
        for tracker in self._streams.values():
            tracker.tune(thresholds)

    def update(self, observed: Observed) -> Tracked:
        """Track one frame; frames of a stream come in order."""
        return self._streams[observed.frame.stream].update(observed)

    def carry(self, frame: Frame) -> Tracked | None:
        """Show the stream's tracks again with a frame that was not inferred, since nothing has moved.

        What was seen last does not age by it. The detections and stamps are those of the last frame that was inferred.

        Returns:
            None where no frame of the stream has been inferred yet.
        """
        return self._streams[frame.stream].carry(frame)

    def predict(self, frame: Frame) -> Tracked | None:
        """Show the stream's tracks with a frame that was left out by the inference rate, where they are by then.

        Returns:
            None where no frame of the stream has been inferred yet.
        """
        return self._streams[frame.stream].predict(frame)

    def lose(self, stream: str) -> None:
        """A stream is interrupted: none of its tracks goes on, and their ends come with its next frame."""
        if stream in self._streams:
            self._streams[stream].lose()


def track(items: Iterable[Observed | Skipped], trackers: Trackers) -> Iterator[Tracked]:
    """Follow objects and faces over the frames of each stream."""
    for item in items:
        yield trackers.update(item) if isinstance(item, Observed) else _skipped(item, trackers)


def _skipped(item: Skipped, trackers: Trackers) -> Tracked:
    between = item.frame.between
    tracked = trackers.predict(item.frame) if between else trackers.carry(item.frame)
    carried: Carried = "predicted" if between else "unchanged"
    if tracked is None:  # what the network saw of the stream was lost in a crash, or another scene has begun
        return trackers.update(Observed(item.frame, _nothing(), item.timestamps, carried=carried))
    return replace(tracked, timestamps=item.timestamps, carried=carried)


def _nothing() -> Detections:
    boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    faces = Faces(boxes, scores, np.zeros((0, 5, 2), np.float32))
    return Detections(Objects(boxes, scores, np.zeros(0, np.int32)), faces, scores)
