"""Detections of successive frames joined into tracks, all tracks at once; pure state.

What was taken from where: two passes, sure detections first (Zhang et al., "ByteTrack: Multi-Object Tracking by
Associating Every Detection Box", ECCV 2022); recovery where a track was last seen, and the velocity of what comes back
(Cao et al., "Observation-Centric SORT", CVPR 2023); what a track looks like as a mean over its detections (Aharon et
al., "BoT-SORT", 2022); a track is shown while it is likely enough to be there, of which its detections' scores are the
evidence (Musicki, Evans and Stankovic, "Integrated Probabilistic Data Association", IEEE Transactions on Automatic
Control 39, 1994). docs/tracking.md goes through it step by step.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.arrays import Double, Flags, Float, Rows
from pipeline.frames.types import Tracks
from pipeline.settings.schema import TrackingSettings
from pipeline.tracking.association import Pairs, by_coordinate, match, moved, overlapping, widened
from pipeline.tracking.found import FoundDetections, ScoreThresholds, TrackerInput
from pipeline.tracking.kalman import LONG, BoxFilters
from pipeline.tracking.shared_motion import ENOUGH, shared_motion

SAME_LABEL: Final = 0.1  # what an equal label is worth in the association, in IoU
SAME_APPEARANCE: Final = 0.5  # what looking exactly alike is worth
APPEARANCE_KEPT: Final = 0.9  # of what a track looked like, with each detection
LOW_SCORE_IOU: Final = 0.5  # an unsure detection must lie closer to the track it carries on
TENTATIVE_IOU: Final = 0.3  # and a sure one closer to a track that is not shown yet
LAST_SEEN_IOU: Final = 0.3  # and to where a track was last seen, when it is not where it should be
KNOWN_HITS: Final = 3  # from so many detections on a track tells how the camera moved
WIDE_IOU: Final = 0.25  # of widened boxes, where frames were left out
DUPLICATE_IOU: Final = 0.8  # a detection this close to one that has a track is the same thing under a second label
TENTATIVE_SHARE: Final = 1 / 5  # of max_lost_s: what was seen once or twice is given up sooner
PATIENT_FRAMES: Final = 2.5  # at low frame rates a track may miss one frame, whatever max_lost_s says
TENTATIVE_FRAMES: Final = 1.5  # and an unconfirmed one none
GAPS: Final = 9  # frame intervals that the usual interval is the median of

# Evidence that a track is there, in logarithms of odds.
SHOWN: Final = 1.5  # times confirm_frames: from here on a track is shown
MAX_EVIDENCE: Final = 15.0  # more is not kept, or what has left would be believed in for too long
MISSED_PER_S: Final = 10.0  # taken away in a second without a detection,
MISSED: Final = 1.0  # and at most for one frame
MAX_STANDS_FOR: Final = 4  # frames left out of which one detection says as much as one of each would

TRACK: Final = np.dtype(
    [
        ("id", np.int64),  # 0 while never shown
        ("kind", np.int64),
        ("label", np.int32),
        ("hits", np.int64),
        ("evidence", np.float64),
        ("unseen_s", np.float64),  # since the last detection
    ],
    align=True,  # or NumPy copies a column before and after whatever is done with it
)


class Tracker:
    """Tracks of one stream; pure state, times are stream time.

    Args:
        settings: how tracks begin, go on and end.
        sure_scores: one for each kind of thing, or one for each label of a kind; detections from this score on start
            tracks, weaker ones only carry them on. Things of different kinds, such as objects and faces, are tracked
            together but never confused.
        first_id: of the tracks of each kind.
    """

    def __init__(self, settings: TrackingSettings, *sure_scores: float | Sequence[float], first_id: int = 1) -> None:
        self._settings = settings
        self._shown_from = SHOWN * settings.confirm_frames
        self._bar = ScoreThresholds(sure_scores, settings.low_score_ratio)
        self._kinds = len(sure_scores)
        self._filters = BoxFilters()
        self._tracks = np.zeros(0, TRACK)
        self._last: Double = np.zeros((4, 0))  # detection of each track
        self._appearance: Double | None = None
        self._next_ids = [first_id] * len(sure_scores)
        self._time_s: float | None = None
        self._updated_s = 0.0
        self._gaps: deque[float] = deque(maxlen=GAPS)

    def tune(self, *sure_scores: float | Sequence[float]) -> None:
        """Take other scores, of as many kinds; the tracks that there are go on."""
        self._bar = ScoreThresholds(sure_scores, self._settings.low_score_ratio)

    def update(
        self,
        time_s: float,
        *seen: TrackerInput,
        size: tuple[int, int],
        motion: Double | None = None,
        stands_for: int = 1,
    ) -> tuple[Tracks, ...]:
        """Take the detections of the next frame, one :class:`Seen` for each kind.

        Args:
            time_s: stream time; a step back counts as no time at all.
            seen: in the order of the scores that the tracker was made with.
            size: width and height of the picture, in which all detections lie, and the boxes of tracks stay.
            motion: (2, 3) of the camera since the last frame, in source pixels; None: it stood still.
            stands_for: frames of the stream: this one, and those before it that were left out by the inference rate.

        Returns:
            For each kind the tracks that are shown and have a detection in this frame, boxes filtered over time, and
            the ids that ended.
        """
        step = self._advance(time_s)
        ended = self._expire()
        if motion is not None:
            self._filters.move(motion)
            self._last = moved(self._last, motion)
        if not len(self._tracks) and not self._sure_of_any(seen):  # nothing to carry on, nothing that starts a track
            return tuple(self._none(one, kind, ended) for kind, one in enumerate(seen))
        found = self._bar.usable(seen)
        stands_for = min(stands_for, MAX_STANDS_FOR)
        matched = self._associate(found, step, size, stands_for)
        self._correct(found, matched, step, stands_for)
        born = self._births(found, matched)
        if len(born):
            self._start(found, born)
            matched = np.concatenate([matched, born])
        self._name()
        return self._shown(found, matched, ended, [len(one.scores) for one in seen], size)

    def carry(self, time_s: float) -> None:
        """Let time pass in which nothing moved: what was seen last is still seen, what was not goes on missing."""
        if self._time_s is not None:
            unseen = self._tracks["unseen_s"]
            unseen[unseen > 0.0] += max(0.0, time_s - self._time_s)
        self._time_s = time_s

    def predicted(self, time_s: float, *shown: Tracks, size: tuple[int, int]) -> tuple[Tracks, ...]:
        """Return what was last shown where it is at ``time_s``, a frame that is not inferred; nothing here changes.

        Args:
            time_s: stream time, after that of the last frame.
            shown: of each kind, with the last frame that was inferred.
            size: width and height of the picture.
        """
        tracks, later_s = self._tracks, max(0.0, time_s - (self._time_s or 0.0))
        ahead = self._filters.predicted(tracks["unseen_s"] + later_s, later_s)
        none, out = np.zeros(0, np.int64), []
        for kind, one in enumerate(shown):
            (rows,) = ((tracks["kind"] == kind) & np.isin(tracks["id"], one.ids)).nonzero()
            boxes = _inside(ahead.take(rows, 1), by_coordinate(one.boxes), np.arange(len(rows)), size)
            out.append(replace(one, boxes=boxes, ended=none))
        return tuple(out)

    def lose(self) -> None:
        """What was seen will not come back: all tracks end with the next frame."""
        self._tracks["unseen_s"] = np.inf

    def _advance(self, time_s: float) -> float:
        """Seconds since the last frame."""
        if self._time_s is None:
            self._time_s = self._updated_s = time_s
        step = max(0.0, time_s - self._time_s)
        if time_s > self._updated_s:
            self._gaps.append(time_s - self._updated_s)
        self._time_s = self._updated_s = time_s
        self._tracks["unseen_s"] += step
        return step

    def _expire(self) -> npt.NDArray[np.void]:
        """Drop what was not seen for too long; those among it that had been shown."""
        unseen, ids = self._tracks["unseen_s"], self._tracks["id"]
        if unseen.max(initial=0.0) <= self._settings.max_lost_s * TENTATIVE_SHARE:  # the common case
            return self._tracks[:0]
        gap = median(self._gaps) if self._gaps else 0.0
        lost_s = max(self._settings.max_lost_s, PATIENT_FRAMES * gap)
        tentative_s = max(self._settings.max_lost_s * TENTATIVE_SHARE, TENTATIVE_FRAMES * gap)
        over = unseen > tentative_s
        if over.any():
            over &= (ids == 0) | (unseen > lost_s)
        ended = self._tracks[over]
        if len(ended):
            self._filters.keep(~over)
            self._tracks, self._last = self._tracks[~over], self._last[:, ~over]
            if self._appearance is not None:
                self._appearance = self._appearance[~over]
        return ended[ended["id"] > 0]

    def _sure_of_any(self, seen: Sequence[TrackerInput]) -> bool:
        # In double precision, as everywhere; fmax passes over what is not a number.
        best = [float(np.fmax.reduce(one.scores, initial=0.0)) for one in seen]
        return any(score >= sure for score, sure in zip(best, self._bar.lowest, strict=True))

    @staticmethod
    def _none(seen: TrackerInput, kind: int, ended: npt.NDArray[np.void]) -> Tracks:
        """Where nothing is shown of a kind."""
        rows = np.zeros(0, np.int64)
        return Tracks(rows, seen.boxes[:0], seen.scores[:0], seen.labels[:0], rows, ended["id"][ended["kind"] == kind])

    def _associate(self, found: FoundDetections, step: float, size: tuple[int, int], stands_for: int) -> Rows:
        """The row of the detection of each track, -1 where there is none."""
        tracks = self._tracks
        matched = np.full(len(tracks), -1)
        if not len(tracks) or not len(found.rows):
            return matched
        ahead = self._filters.predicted(tracks["unseen_s"], step)
        taken = self._take(ahead, found, matched)
        motion = self._camera(ahead, found, matched, step)
        if motion is not None:
            self._filters.move(motion)
            self._last = moved(self._last, motion)
            matched[:] = -1
            taken = self._take(moved(ahead, motion), found, matched)
        if np.count_nonzero(taken) < len(taken):
            self._recover(found, matched, taken, size)
        if stands_for > 1 and np.count_nonzero(taken) < len(taken):
            self._reach(ahead, found, matched, taken)
        return matched

    def _reach(self, ahead: Double, found: FoundDetections, matched: Rows, taken: Flags) -> None:
        """Look further around for tracks that are not where they should be: frames were left out in between.

        Boxes are widened on all sides (Yang et al., "Hard to Track Objects with Irregular Motions and Similar
        Appearances? Make It Easier by Buffering the Matching Space", WACV 2023).
        """
        tracks, detections = (matched < 0).nonzero()[0], (found.sure & ~taken).nonzero()[0]
        if not len(tracks) or not len(detections):
            return
        near = overlapping(widened(ahead[:, tracks]), widened(found.boxes[:, detections]))
        pairs = Pairs(tracks[near.tracks], detections[near.detections], near.ious)
        same = self._tracks["kind"][pairs.tracks] == found.kinds[pairs.detections]
        same &= self._tracks["label"][pairs.tracks] == found.labels[pairs.detections]
        match(pairs, same & (pairs.ious >= WIDE_IOU), pairs.ious, matched, taken)

    def _take(self, ahead: Double, found: FoundDetections, matched: Rows) -> Flags:
        """Give the tracks, at the boxes ``ahead``, their detections; which detections are taken."""
        pairs = self._alike(ahead, found)
        gains = self._gains(pairs, found)
        known, taken = self._tracks["id"] > 0, np.zeros(len(found.rows), np.bool_)
        passes = (
            (known, found.sure, self._settings.min_iou),
            (known, ~found.sure, LOW_SCORE_IOU),
            (~known, found.sure, TENTATIVE_IOU),
        )
        for tracks, detections, least in passes:
            if not np.count_nonzero(tracks) or not np.count_nonzero(detections):
                continue
            allowed = pairs.ious >= least
            allowed &= tracks.take(pairs.tracks)
            allowed &= detections.take(pairs.detections)
            match(pairs, allowed, gains, matched, taken)
            if np.count_nonzero(taken) == len(taken):
                break
        return taken

    def _camera(self, ahead: Double, found: FoundDetections, matched: Rows, step: float) -> Double | None:
        """By how much all that was just seen is elsewhere than it should be, (2, 3)."""
        steady = (self._tracks["hits"] >= KNOWN_HITS) & (self._tracks["unseen_s"] < LONG * step)
        (telling,) = (steady & (matched >= 0)).nonzero()
        if len(telling) < ENOUGH:
            return None
        return shared_motion(ahead.take(telling, 1), found.boxes.take(matched[telling], 1))

    def _alike(self, ahead: Double, found: FoundDetections) -> Pairs:
        """The pairs of tracks, at the boxes ``ahead``, and detections of the same kind that overlap."""
        return overlapping(ahead, found.boxes, (self._tracks["kind"], found.kinds) if self._kinds > 1 else None)

    def _gains(self, pairs: Pairs, found: FoundDetections) -> Double:
        gains: Double = SAME_LABEL * (self._tracks["label"].take(pairs.tracks) == found.labels.take(pairs.detections))
        gains += pairs.ious
        if self._appearance is not None and found.appearance is not None:
            gains += SAME_APPEARANCE * np.maximum(
                (self._appearance[pairs.tracks] * found.appearance[pairs.detections]).sum(1), 0.0
            )
        return gains

    def _recover(self, found: FoundDetections, matched: Rows, taken: Flags, size: tuple[int, int]) -> None:
        """Look for shown tracks where they were last seen: what stood still for a while is not where it was going.

        What was leaving the picture is not looked for: what comes in where it went out is another thing.
        """
        tracks, detections = ((matched < 0) & (self._tracks["id"] > 0)).nonzero()[0], (found.sure > taken).nonzero()[0]
        if not len(tracks) or not len(detections):
            return
        near = overlapping(self._last[:, tracks], found.boxes[:, detections])
        pairs = Pairs(tracks[near.tracks], detections[near.detections], near.ious)
        same = self._tracks["kind"][pairs.tracks] == found.kinds[pairs.detections]
        allowed = same & (pairs.ious >= LAST_SEEN_IOU)
        if allowed.any():
            allowed &= ~self._filters.leaving(size)[pairs.tracks]
            match(pairs, allowed, pairs.ious, matched, taken)

    def _correct(self, found: FoundDetections, matched: Rows, step: float, stands_for: int) -> None:
        tracks, seen = self._tracks, matched >= 0
        if not len(tracks):
            return
        missed = min(MISSED, MISSED_PER_S * step)
        if not len(found.rows):
            tracks["evidence"] -= missed
            return
        boxes = found.boxes.take(matched, 1)  # where there is none the last one, which is not looked at
        self._filters.correct(tracks["unseen_s"], step, boxes, seen)
        gained = np.where(seen, stands_for * found.evidence[matched], -missed)
        tracks["evidence"] = np.minimum(tracks["evidence"] + gained, MAX_EVIDENCE)
        tracks["hits"] += seen
        tracks["unseen_s"][seen] = 0.0
        np.copyto(tracks["label"], found.labels[matched], where=seen)
        np.copyto(self._last, boxes, where=seen)
        if self._appearance is not None and found.appearance is not None:
            mixed = APPEARANCE_KEPT * self._appearance[seen] + (1 - APPEARANCE_KEPT) * found.appearance[matched[seen]]
            self._appearance[seen] = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)

    def _births(self, found: FoundDetections, matched: Rows) -> Rows:
        """Rows of the sure detections that start a track, best first."""
        free = found.sure.copy()
        free[matched[matched >= 0]] = False
        born: Rows = free.nonzero()[0]
        if not len(born):
            return born
        born = born[np.argsort(-found.scores[born], kind="stable")]
        claimed = np.concatenate([matched[matched >= 0], born])
        near = overlapping(found.boxes[:, born], found.boxes[:, claimed])
        rank = len(claimed) - len(born)  # what comes before a detection among the claimed is preferred to it
        same = found.kinds[born[near.tracks]] == found.kinds[claimed[near.detections]]
        double = near.tracks[same & (near.ious >= DUPLICATE_IOU) & (near.detections < rank + near.tracks)]
        return np.delete(born, double)

    def _start(self, found: FoundDetections, born: Rows) -> None:
        new = np.zeros(len(born), TRACK)
        new["kind"], new["label"], new["hits"] = found.kinds[born], found.labels[born], 1
        new["evidence"] = found.evidence[born]
        boxes = found.boxes[:, born]
        self._tracks = np.concatenate([self._tracks, new])
        self._last = np.concatenate([self._last, boxes], axis=1)
        self._filters.append(boxes)
        if found.appearance is not None:
            known = np.zeros((0, found.appearance.shape[1])) if self._appearance is None else self._appearance
            self._appearance = np.concatenate([known, found.appearance[born]])

    def _name(self) -> None:
        """Give an id to what is sure enough to be shown for the first time."""
        tracks = self._tracks
        unnamed = tracks["id"] == 0
        if np.count_nonzero(unnamed):
            ready = unnamed & (tracks["evidence"] >= self._shown_from)
            ready &= tracks["hits"] >= self._settings.confirm_frames
            for kind in range(len(self._next_ids)):
                rows = np.flatnonzero(ready & (tracks["kind"] == kind))
                tracks["id"][rows] = self._next_ids[kind] + np.arange(len(rows))
                self._next_ids[kind] += len(rows)

    def _shown(
        self,
        found: FoundDetections,
        matched: Rows,
        ended: npt.NDArray[np.void],
        counts: Sequence[int],
        size: tuple[int, int],
    ) -> tuple[Tracks, ...]:
        tracks = self._tracks
        (shown,) = ((matched >= 0) & (tracks["id"] > 0) & (tracks["evidence"] >= self._shown_from)).nonzero()
        ends = [len(shown)]
        if len(counts) > 1:  # kind by kind
            kinds = tracks["kind"].take(shown)
            shown = shown.take(kinds.argsort(kind="stable"))
            ends = np.bincount(kinds, minlength=len(counts)).cumsum().tolist()
        detections = matched.take(shown)
        ids, rows = tracks["id"].take(shown), found.rows.take(detections)
        scores, labels = found.scores.take(detections).astype(np.float32), found.labels.take(detections)
        boxes = _inside(self._filters.boxes.take(shown, 1), found.boxes, detections, size)
        out, before, begin = [], 0, 0
        for kind, (count, end) in enumerate(zip(counts, ends, strict=True)):
            part, begin = slice(begin, end), end
            gone = ended["id"][ended["kind"] == kind] if len(ended) else ended["id"]
            out.append(Tracks(ids[part], boxes[part], scores[part], labels[part], rows[part] - before, gone))
            before += count
        return tuple(out)


def _inside(boxes: Double, detected: Double, rows: Rows, size: tuple[int, int]) -> Float:
    """The boxes (4, S) inside a picture of ``size`` as (S, 4); where nothing is left, the detection in ``rows``."""
    inside = np.maximum(boxes, 0.0)
    np.minimum(inside, _limits(size), out=inside)
    full = inside[:2] < inside[2:]
    if np.count_nonzero(full) < full.size:  # a filtered box can run ahead, out of the picture; a detection never does
        empty = ~full.all(axis=0)
        inside[:, empty] = detected[:, rows[empty]]
    return np.asarray(inside.T, np.float32, order="C")


@lru_cache(maxsize=64)
def _limits(size: tuple[int, int]) -> Double:
    return np.array([*size, *size], np.float64)[:, None]
