"""Detections of successive frames joined into tracks.

Association in two passes after ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every
Detection Box", ECCV 2022): sure detections first, then the unsure ones for the tracks that are left.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from statistics import median

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from engines.boxes import Float, clip_boxes, filled, iou_matrix
from engines.spec import Thresholds
from pipeline.config import TrackingSettings
from pipeline.kalman import BoxFilters
from pipeline.types import Observed, Tracked, Tracks

Labels = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]

SAME_LABEL = 0.1  # what an equal label is worth in the association, in IoU
DUPLICATE_IOU = 0.8  # a detection this close to one that has a track is the same thing under a second label
TENTATIVE_SHARE = 1 / 5  # of max_lost_s: what was seen once or twice is given up sooner
PATIENT_FRAMES = 2.5  # at low frame rates a track may miss one frame, whatever max_lost_s says
TENTATIVE_FRAMES = 1.5  # and an unconfirmed one none
GAPS = 9  # frame intervals that the usual interval is the median of

UPPER_SHARE = 0.6  # the part of a person's box, from the top, in which a face is looked for
MIN_INSIDE = 0.5  # share of a face that must lie in there
STAY = 1.25  # how much better another person must fit before a face changes over


class Tracker:
    """Tracks of one kind of thing in one stream; pure state, times are stream time.

    Args:
        settings: how tracks begin, go on and end.
        sure_score: detections from this score on start tracks; weaker ones only carry them on.
    """

    def __init__(self, settings: TrackingSettings, sure_score: float) -> None:
        self._settings = settings
        self._sure_score = sure_score
        self._unsure_score = sure_score * settings.unsure_share
        self._filters = BoxFilters()
        self._ids: Rows = np.zeros(0, np.int64)  # 0 while not confirmed
        self._hits: Rows = np.zeros(0, np.int64)
        self._labels: Labels = np.zeros(0, np.int32)
        self._unseen_s = np.zeros(0)  # since the last detection
        self._next_id = 1
        self._time_s: float | None = None
        self._gaps: deque[float] = deque(maxlen=GAPS)

    def update(self, time_s: float, boxes: Float, scores: Float, labels: Labels) -> Tracks:
        """Take the detections of the next frame.

        Args:
            time_s: stream time; a step back counts as no time at all.
            boxes: (N, 4) xyxy source pixels; rows that are empty or not finite are passed over.
            scores: (N,) in [0, 1].
            labels: (N,) class of each detection; an equal label helps an association, another one does not forbid it.

        Returns:
            The confirmed tracks that have a detection in this frame, boxes filtered over time, and the ids that ended.
        """
        self._advance(time_s)
        ended = self._expire()
        usable = filled(boxes) & np.isfinite(scores)
        found = self._associate(boxes, scores, labels, usable)
        seen = np.flatnonzero(found >= 0)
        self._filters.correct(seen, boxes[found[seen]])
        self._hits[seen] += 1
        self._unseen_s[seen] = 0.0
        self._labels[seen] = labels[found[seen]]
        born = self._births(boxes, scores, usable, found[seen])
        if len(born):
            self._start(boxes[born], labels[born])
        self._confirm()
        return self._tracks(np.concatenate([found, born]), scores, ended)

    def _advance(self, time_s: float) -> None:
        step = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        if step > 0.0:
            self._gaps.append(step)
        self._filters.predict(step, self._unseen_s > 0.0)
        self._unseen_s += step

    def _expire(self) -> Rows:
        """Drop what was not seen for too long; the ids of the confirmed ones among it."""
        gap = median(self._gaps) if self._gaps else 0.0
        lost_s = max(self._settings.max_lost_s, PATIENT_FRAMES * gap)
        tentative_s = max(self._settings.max_lost_s * TENTATIVE_SHARE, TENTATIVE_FRAMES * gap)
        kept = self._unseen_s <= np.where(self._ids > 0, lost_s, tentative_s)
        if kept.all():
            return np.zeros(0, np.int64)
        ended = self._ids[~kept & (self._ids > 0)]
        self._filters.keep(kept)
        self._ids, self._hits, self._labels = self._ids[kept], self._hits[kept], self._labels[kept]
        self._unseen_s = self._unseen_s[kept]
        return ended

    def _associate(self, boxes: Float, scores: Float, labels: Labels, usable: npt.NDArray[np.bool_]) -> Rows:
        """The row of the detection of each track, -1 where there is none."""
        found = np.full(len(self._ids), -1, np.int64)
        predicted = self._filters.boxes
        sure = usable & (scores >= self._sure_score)
        unsure = usable & ~sure & (scores >= self._unsure_score)
        confirmed = self._ids > 0
        for tracks, detections in ((confirmed, sure), (confirmed, unsure), (~confirmed, sure)):
            rows = np.flatnonzero(tracks & (found < 0))
            columns = np.flatnonzero(detections)
            if not len(rows) or not len(columns):
                continue
            ious = iou_matrix(predicted[rows], boxes[columns])
            same = self._labels[rows, None] == labels[columns]
            matched, taken = _best_pairs(ious, same, self._settings.min_iou)
            found[rows[matched]] = columns[taken]
            detections[columns[taken]] = False
        return found

    def _births(self, boxes: Float, scores: Float, usable: npt.NDArray[np.bool_], taken: Rows) -> Rows:
        """Rows of the sure detections that start a track, best first."""
        free = usable & (scores >= self._sure_score)
        free[taken] = False
        claimed = list(taken)
        born = []
        for row in sorted(np.flatnonzero(free), key=lambda row: -scores[row]):
            if iou_matrix(boxes[[row]], boxes[claimed]).max(initial=0.0) < DUPLICATE_IOU:
                claimed.append(row)
                born.append(row)
        return np.array(born, np.int64)

    def _start(self, boxes: Float, labels: Labels) -> None:
        count = len(boxes)
        self._filters.append(boxes)
        self._ids = np.concatenate([self._ids, np.zeros(count, np.int64)])
        self._hits = np.concatenate([self._hits, np.ones(count, np.int64)])
        self._labels = np.concatenate([self._labels, labels])
        self._unseen_s = np.concatenate([self._unseen_s, np.zeros(count)])

    def _confirm(self) -> None:
        ready = np.flatnonzero((self._ids == 0) & (self._hits >= self._settings.confirm_frames))
        self._ids[ready] = np.arange(self._next_id, self._next_id + len(ready))
        self._next_id += len(ready)

    def _tracks(self, found: Rows, scores: Float, ended: Rows) -> Tracks:
        shown = (found >= 0) & (self._ids > 0)
        rows = found[shown]
        return Tracks(self._ids[shown], self._filters.boxes[shown], scores[rows], self._labels[shown], rows, ended)


class StreamTracker:
    """The object tracker and the face tracker of one stream, and whose face is whose."""

    def __init__(self, settings: TrackingSettings, thresholds: Thresholds, person: int | None) -> None:
        self._objects = Tracker(settings, thresholds.object_score)
        self._faces = Tracker(settings, thresholds.face_score)
        self._person = person
        self._owners: dict[int, int] = {}  # face track -> the person's track

    def update(self, observed: Observed) -> Tracked:
        """Track one frame; frames of the stream come in order."""
        time_s, picture = observed.frame.time_s, observed.frame.picture
        size = (picture.width, picture.height)
        seen, faces_seen = observed.detections.objects, observed.detections.faces
        objects = _inside(self._objects.update(time_s, seen.boxes, seen.scores, seen.labels), seen.boxes, size)
        no_labels = np.zeros(len(faces_seen.boxes), np.int32)
        faces = self._faces.update(time_s, faces_seen.boxes, faces_seen.scores, no_labels)
        faces = _inside(faces, faces_seen.boxes, size)
        return Tracked(observed, objects, faces, self._link(objects, faces))

    def _link(self, objects: Tracks, faces: Tracks) -> Rows:
        """The person (id) of each face, 0 for none; a person has one face."""
        for ended in faces.ended.tolist():
            self._owners.pop(ended, None)
        links = np.zeros(len(faces.ids), np.int64)
        if not len(links):
            return links
        owners = np.array([self._owners.get(face, 0) for face in faces.ids.tolist()], np.int64)
        # A person whose label flickers in this frame stays a person for the face that is already linked.
        candidates = np.isin(objects.ids, owners)
        if self._person is not None:
            candidates |= objects.labels == self._person
        people = np.flatnonzero(candidates)
        fit = face_fit(faces.boxes, objects.boxes[people])
        fit *= np.where(owners[:, None] == objects.ids[people], STAY, 1.0)
        matched, chosen = linear_sum_assignment(fit, maximize=True)
        good = fit[matched, chosen] > 0.0
        links[matched[good]] = objects.ids[people[chosen[good]]]
        self._owners.update(zip(faces.ids[matched[good]].tolist(), links[matched[good]].tolist(), strict=True))
        return links


def face_fit(faces: Float, people: Float) -> Float:
    """How well each face (F, 4) sits where the head of each person (P, 4) should be: (F, P), 0 for not at all, to 1.

    Boxes are xyxy. The share of the face that lies in the upper part of the person counts, less the further it is
    from the middle of the upper edge.
    """
    a, b = faces[:, None].astype(np.float64), people[None].astype(np.float64)
    width, height = b[..., 2] - b[..., 0], b[..., 3] - b[..., 1]
    upper = b.copy()
    upper[..., 3] = b[..., 1] + UPPER_SHARE * height
    overlap = (np.minimum(a[..., 2:], upper[..., 2:]) - np.maximum(a[..., :2], upper[..., :2])).clip(min=0.0)
    area = (a[..., 2:] - a[..., :2]).prod(axis=-1)
    inside = overlap.prod(axis=-1) / np.maximum(area, 1e-9)
    aside = np.abs(a[..., 0] + a[..., 2] - b[..., 0] - b[..., 2]) / 2 / np.maximum(width, 1e-9)
    below = np.abs(a[..., 1] - b[..., 1]) / np.maximum(height, 1e-9)
    return np.asarray(np.where(inside >= MIN_INSIDE, inside / (1 + aside + below), 0.0), np.float32)


class Trackers:
    """The trackers of all streams.

    Args:
        settings: of every tracker.
        thresholds: scores from which a detection starts a track.
        person: label index of people, if the model has one.
    """

    def __init__(self, settings: TrackingSettings, thresholds: Thresholds, person: int | None) -> None:
        self._streams: defaultdict[str, StreamTracker] = defaultdict(
            lambda: StreamTracker(settings, thresholds, person)
        )

    def update(self, observed: Observed) -> Tracked:
        """Track one frame; frames of a stream come in order."""
        return self._streams[observed.frame.stream].update(observed)


def track(observed: Iterable[Observed], trackers: Trackers) -> Iterator[Tracked]:
    """Follow objects and faces over the frames of each stream."""
    for item in observed:
        yield trackers.update(item)


def _best_pairs(ious: Float, same: npt.NDArray[np.bool_], min_iou: float) -> tuple[Rows, Rows]:
    """Pairs of rows and columns with the greatest sum of IoU, none below ``min_iou``."""
    allowed = (ious >= min_iou) & (ious > 0.0)
    # A forbidden pair is worth as much as none: two poor pairs do not oust a good one just to be two.
    rows, columns = linear_sum_assignment(np.where(allowed, ious + SAME_LABEL * same, 0.0), maximize=True)
    good = allowed[rows, columns]
    return rows[good].astype(np.int64), columns[good].astype(np.int64)


def _inside(tracks: Tracks, detected: Float, size: tuple[int, int]) -> Tracks:
    """The same tracks with their boxes inside the picture."""
    boxes = clip_boxes(tracks.boxes, size)
    # A filtered box can run ahead, out of the picture; the detection itself never does.
    boxes = np.where(filled(boxes)[:, None], boxes, detected[tracks.rows])
    return Tracks(tracks.ids, boxes, tracks.scores, tracks.labels, tracks.rows, tracks.ended)
