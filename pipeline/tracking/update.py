"""Detections of the next frame of each of some streams joined to their tracks, all streams and tracks at once.

What was taken from where: two passes, sure detections first (Zhang et al., "ByteTrack: Multi-Object Tracking by
Associating Every Detection Box", ECCV 2022); recovery where a track was last seen, and the velocity of what comes back
(Cao et al., "Observation-Centric SORT", CVPR 2023); what a track looks like as a mean over its detections (Aharon et
al., "BoT-SORT", 2022); a track is shown while it is likely enough to be there, of which its detections' scores are the
evidence (Musicki, Evans and Stankovic, "Integrated Probabilistic Data Association", IEEE TAC 39, 1994). It is
described step by step in docs/tracking.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.arrays import Double, Flags, Float, Rows
from pipeline.frames.types import Tracks
from pipeline.settings.schema import TrackingSettings
from pipeline.tracking.association import (
    Blocks,
    Pairs,
    compared,
    match,
    moved,
    overlapping,
    touching_within,
    widened,
)
from pipeline.tracking.found import ScoreThresholds, TrackerInput
from pipeline.tracking.kalman import LONG
from pipeline.tracking.shared_motion import ENOUGH, shared_motions
from pipeline.tracking.table import TENTATIVE_SHARE, StreamTracks, TrackTable

SAME_LABEL: Final = 0.1  # what an equal label is worth in the association, in IoU
SAME_APPEARANCE: Final = 0.5  # what looking exactly alike is worth
APPEARANCE_KEPT: Final = 0.9  # of what a track looked like, with each detection
LOW_SCORE_IOU: Final = 0.5  # an unsure detection must lie closer to the track it carries on
TENTATIVE_IOU: Final = 0.3  # and a sure one closer to a track that is not shown yet
LAST_SEEN_IOU: Final = 0.3  # and to where a track was last seen, when it is not where it should be
KNOWN_HITS: Final = 3  # from so many detections on a track tells how the camera moved
WIDE_IOU: Final = 0.25  # of widened boxes, where frames were left out
DUPLICATE_IOU: Final = 0.8  # a detection this close to one that has a track is the same thing under a second label

# Evidence that a track is there, in logarithms of odds.
SHOWN: Final = 1.5  # times confirm_frames: from here on a track is shown
MAX_EVIDENCE: Final = 15.0  # more is not kept, or what has left would be believed in for too long
MISSED_PER_S: Final = 10.0  # taken away in a second without a detection,
MISSED: Final = 1.0  # and at most for one frame
MAX_STANDS_FOR: Final = 4  # frames left out of which one detection says as much as one of each would

NO_ROWS: Final[Rows] = np.zeros(0, np.int64)
KNOWN_AND_SURE: Final = 3  # a track that is shown and a sure detection, in the numbers of :meth:`_Update._take`


class TrackingRules:
    """How tracks begin, go on and end.

    Args:
        settings: of a run.
        sure_scores: one for each kind of thing, or one for each label of a kind; detections from this score on start
            tracks, weaker ones only carry them on. Things of different kinds, such as objects and faces, are tracked
            together but never confused.

    Attributes:
        settings: as given.
        shown_from: evidence from which a track is shown.
        bar: which detections count.
        near: overlap of a pair from which it is one, by whether its track is shown (2) and its detection sure (1).
    """

    def __init__(self, settings: TrackingSettings, *sure_scores: float | Sequence[float]) -> None:
        self.settings, self.shown_from = settings, SHOWN * settings.confirm_frames
        self.near = np.array([np.inf, TENTATIVE_IOU, LOW_SCORE_IOU, settings.min_iou])
        self.tune(*sure_scores)

    def tune(self, *sure_scores: float | Sequence[float]) -> None:
        """Take other scores, of as many kinds; the tracks that there are go on."""
        self.bar = ScoreThresholds(sure_scores, self.settings.low_score_ratio)


@dataclass(frozen=True, slots=True)
class NextFrame:
    """The detections of the next frame of a stream."""

    state: StreamTracks
    time_s: float  # stream time; a step back counts as no time at all
    seen: Sequence[TrackerInput]  # of each kind, in the order of the rules' scores
    size: tuple[int, int]  # width and height of the picture, in which all detections lie, and the boxes of tracks stay
    motion: Double | None = None  # (2, 3) of the camera since the last frame, in source pixels; None: it stood still
    stands_for: int = 1  # frames of the stream: this one, and those before it that the inference rate left out


def update_together(rules: TrackingRules, frames: Sequence[NextFrame]) -> list[tuple[Tracks, ...]]:
    """Take the next frames of different streams, one or more.

    Returns:
        For each frame and kind the tracks that are shown and have a detection in it, boxes filtered over time, and the
        ids that ended.
    """
    return _Update(rules, frames).run()


class _Update:
    """One frame of each of B streams. Rows of tracks are by stream, and so are those of detections."""

    def __init__(self, rules: TrackingRules, frames: Sequence[NextFrame]) -> None:
        self._rules, self._frames = rules, frames
        self._states = [frame.state for frame in frames]
        tables = [state.table for state in self._states]
        self._table = TrackTable.joined(tables)
        self._streams: Rows = np.arange(len(tables)).repeat([len(table) for table in tables])
        self._steps = np.array([frame.state.advance(frame.time_s) for frame in frames])
        self._ended: dict[int, list[int]] = {}  # ids, by stream and kind: see _groups

    def run(self) -> list[tuple[Tracks, ...]]:
        table = self._table
        table.unseen_s[:] += self._steps.take(self._streams)
        self._expire()
        for stream, frame in enumerate(self._frames):
            if frame.motion is not None:
                self._move(stream, frame.motion)
        if not len(table) and not self._sure_of_any():  # nothing to carry on, nothing that starts a track
            self._store()
            return self._nothing()
        seen = [one for frame in self._frames for one in frame.seen]
        self._found = self._rules.bar.usable(seen)
        self._matched = np.full(len(table), -1)  # row of the detection of each track, -1 where there is none
        self._taken = np.zeros(len(self._found), np.bool_)  # whether a detection has a track
        if len(table):
            if len(self._found):
                self._associate()
            self._correct()
        self._start(self._births())
        self._name()
        self._store()
        return self._shown([len(one.scores) for one in seen])

    def _groups(self, streams: Rows, kinds: Rows) -> Rows:
        """Stream and kind as one number."""
        return streams * self._rules.bar.kinds + kinds

    def _rows_of(self, stream: int) -> slice:
        first, end = self._streams.searchsorted((stream, stream + 1)).tolist()
        return slice(first, end)

    def _expire(self) -> None:
        """Drop what was not seen for too long, and note what of it had been shown."""
        table, max_lost_s = self._table, self._rules.settings.max_lost_s
        if table.unseen_s.max(initial=0.0) <= max_lost_s * TENTATIVE_SHARE:  # the common case
            return
        lost_s, tentative_s = np.array([state.patience(max_lost_s) for state in self._states]).T
        over = table.unseen_s > tentative_s.take(self._streams)
        if not np.count_nonzero(over):
            return
        over &= (table.ids == 0) | (table.unseen_s > lost_s.take(self._streams))
        (gone,) = over.nonzero()
        ids, groups = table.ids.take(gone), self._groups(self._streams.take(gone), table.kinds.take(gone))
        for track, group in zip(ids.tolist(), groups.tolist(), strict=True):
            if track:
                self._ended.setdefault(group, []).append(track)
        self._keep((~over).nonzero()[0])

    def _keep(self, rows: Rows) -> None:
        self._table.take(rows)
        self._streams = self._streams.take(rows)

    def _move(self, stream: int, motion: Double) -> None:
        """The camera of a stream moved: all its tracks go along."""
        part = self._table.part(self._rows_of(stream))
        part.filters.move(motion)
        part.last[:] = moved(part.last, motion)

    def _sure_of_any(self) -> bool:
        # In double precision, as everywhere; fmax passes over what is not a number.
        lowest = self._rules.bar.lowest
        return any(
            float(np.fmax.reduce(one.scores, initial=0.0)) >= sure
            for frame in self._frames
            for one, sure in zip(frame.seen, lowest, strict=True)
        )

    def _nothing(self) -> list[tuple[Tracks, ...]]:
        """Where nothing is shown."""
        seen = enumerate(one for frame in self._frames for one in frame.seen)
        return self._by_stream(
            [Tracks(NO_ROWS, x.boxes[:0], x.scores[:0], x.labels[:0], NO_ROWS, self._gone(group)) for group, x in seen]
        )

    def _by_stream(self, tracks: list[Tracks]) -> list[tuple[Tracks, ...]]:
        """Those of all kinds of each stream together."""
        return list(zip(*[iter(tracks)] * self._rules.bar.kinds, strict=True))

    def _gone(self, group: int) -> Rows:
        return np.array(self._ended[group]) if group in self._ended else NO_ROWS

    def _associate(self) -> None:
        """Give the tracks their detections."""
        table, found = self._table, self._found
        step = self._steps.take(self._streams)
        ahead = table.filters.predicted(table.unseen_s, step)
        self._take(ahead)
        motions = self._camera(ahead, step)
        for stream, motion in motions.items():
            rows = self._rows_of(stream)
            self._move(stream, motion)
            ahead[:, rows] = moved(ahead[:, rows], motion)
        if motions:
            self._matched[:], self._taken[:] = -1, False
            self._take(ahead)
        if np.count_nonzero(self._taken) < len(found):
            self._recover()
        if np.count_nonzero(self._taken) < len(found):
            self._reach(ahead)

    def _take(self, ahead: Double) -> None:
        """Give the tracks, at the boxes ``ahead``, their detections.

        Shown tracks and sure detections come first. What is left of these has no part in common: shown tracks that
        unsure detections carry on, and sure detections for tracks that are not shown yet.
        """
        table, found = self._table, self._found
        blocks = [Blocks.of(streams, len(self._frames)) for streams in (self._streams, found.streams)]
        kinds = (table.kinds, found.kinds) if self._rules.bar.kinds > 1 else None
        pairs = compared(ahead, found.boxes, kinds, touching_within(ahead, found.boxes, *blocks))
        sort = (table.ids > 0).take(pairs.tracks) * 2 + found.sure.take(pairs.detections)
        (near,) = (pairs.ious >= self._rules.near.take(sort)).nonzero()
        pairs, first = pairs.take(near), sort.take(near) == KNOWN_AND_SURE
        gains = self._gains(pairs)
        for part in (first, ~first):
            (rows,) = part.nonzero()
            match(pairs.take(rows), gains.take(rows), self._matched, self._taken)

    def _gains(self, pairs: Pairs) -> Double:
        table, found = self._table, self._found
        gains: Double = SAME_LABEL * (table.labels.take(pairs.tracks) == found.labels.take(pairs.detections))
        gains += pairs.ious
        if table.appearance is not None and found.appearance is not None:
            gains += SAME_APPEARANCE * np.maximum(
                (table.appearance[pairs.tracks] * found.appearance[pairs.detections]).sum(1), 0.0
            )
        return gains

    def _camera(self, ahead: Double, step: Double) -> dict[int, Double]:
        """By how much all that was just seen of a stream is elsewhere than it should be, (2, 3), of those streams."""
        table = self._table
        steady = (table.hits >= KNOWN_HITS) & (table.unseen_s < LONG * step)
        (telling,) = (steady & (self._matched >= 0)).nonzero()
        if len(telling) < ENOUGH:
            return {}
        boxes = self._found.boxes.take(self._matched.take(telling), 1)
        streams = Blocks.of(self._streams.take(telling), len(self._frames))
        return shared_motions(ahead.take(telling, 1), boxes, streams)

    def _recover(self) -> None:
        """Look for shown tracks where they were last seen: what stood still for a while is not where it was going.

        What was leaving the picture is not looked for: what comes in where it went out is another thing.
        """
        table = self._table
        pairs = self._left((self._matched < 0) & (table.ids > 0), table.last, self._found.boxes, LAST_SEEN_IOU)
        if len(pairs):
            limits = self._limits()[2:].take(self._streams.take(pairs.tracks), 1)
            (rows,) = (~table.filters.leaving(pairs.tracks, limits)).nonzero()
            pairs = pairs.take(rows)
            match(pairs, pairs.ious, self._matched, self._taken)

    def _reach(self, ahead: Double) -> None:
        """Look further around for tracks that are not where they should be: frames were left out in between.

        Boxes are widened on all sides (Yang et al., "Hard to Track Objects with Irregular Motions and Similar
        Appearances? Make It Easier by Buffering the Matching Space", WACV 2023).
        """
        after_others = np.array([frame.stands_for > 1 for frame in self._frames])
        if after_others.any():
            lost = (self._matched < 0) & after_others.take(self._streams)
            pairs = self._left(lost, widened(ahead), widened(self._found.boxes), WIDE_IOU)
            labels = self._table.labels.take(pairs.tracks), self._found.labels.take(pairs.detections)
            pairs = pairs.take((labels[0] == labels[1]).nonzero()[0])
            match(pairs, pairs.ious, self._matched, self._taken)

    def _left(self, lost: Flags, boxes: Double, found_boxes: Double, least: float) -> Pairs:
        """The pairs of these tracks and of sure detections that have none, whose boxes overlap by so much."""
        (tracks,), (detections,) = lost.nonzero(), (self._found.sure > self._taken).nonzero()
        groups = self._groups(self._streams, self._table.kinds).take(tracks)
        found_groups = self._groups(self._found.streams, self._found.kinds).take(detections)
        near = overlapping(boxes.take(tracks, 1), found_boxes.take(detections, 1), (groups, found_groups))
        near = near.take((near.ious >= least).nonzero()[0])
        return Pairs(tracks.take(near.tracks), detections.take(near.detections), near.ious)

    def _limits(self) -> Double:
        """(4, B) the largest corners in the picture of each stream."""
        return np.array([(*frame.size, *frame.size) for frame in self._frames], np.float64).T

    def _correct(self) -> None:
        table, found, seen = self._table, self._found, self._matched >= 0
        steps = self._steps.take(self._streams)
        missed = np.minimum(MISSED_PER_S * steps, MISSED)
        if not len(found):
            table.evidence[:] -= missed
            return
        boxes = found.boxes.take(self._matched, 1)  # where there is none the last one, which is not looked at
        table.filters.correct(table.unseen_s, steps, boxes, seen)
        stands_for = np.array([min(frame.stands_for, MAX_STANDS_FOR) for frame in self._frames])
        gained = stands_for.take(self._streams) * found.evidence.take(self._matched)
        np.copyto(gained, -missed, where=~seen)
        gained += table.evidence
        np.minimum(gained, MAX_EVIDENCE, out=table.evidence)
        table.hits[:] += seen
        np.copyto(table.unseen_s, 0.0, where=seen)
        np.copyto(table.labels, found.labels.take(self._matched), where=seen)
        np.copyto(table.last, boxes, where=seen)
        if table.appearance is not None and found.appearance is not None:
            looks = found.appearance[self._matched[seen]]
            mixed = APPEARANCE_KEPT * table.appearance[seen] + (1 - APPEARANCE_KEPT) * looks
            table.appearance[seen] = mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-9)

    def _births(self) -> Rows:
        """Rows of the sure detections that start a track, best first."""
        found = self._found
        (born,) = (found.sure > self._taken).nonzero()
        if not len(born):
            return born
        born = born.take((-found.scores.take(born)).argsort(kind="stable"))
        claimed = np.concatenate([self._taken.nonzero()[0], born])
        rank = len(claimed) - len(born)  # what comes before a detection among the claimed is preferred to it
        groups, boxes = self._groups(found.streams, found.kinds), found.boxes
        kinds = groups.take(born), groups.take(claimed)
        near = overlapping(boxes.take(born, 1), boxes.take(claimed, 1), kinds)
        double = near.tracks[(near.ious >= DUPLICATE_IOU) & (near.detections < rank + near.tracks)]
        return np.delete(born, double) if len(double) else born

    def _start(self, born: Rows) -> None:
        """Begin tracks, behind those of their streams."""
        if not len(born):
            return
        found, looks = self._found, None if self._found.appearance is None else self._found.appearance[born]
        kinds, labels, boxes = found.kinds.take(born), found.labels.take(born), found.boxes.take(born, 1)
        new = TrackTable.begun(kinds, labels, boxes, found.evidence.take(born), looks)
        self._table = TrackTable.joined([self._table, new])
        self._streams = np.concatenate([self._streams, found.streams.take(born)])
        self._matched = np.concatenate([self._matched, born])
        if len(self._frames) > 1:
            order = self._streams.argsort(kind="stable")
            self._keep(order)
            self._matched = self._matched.take(order)

    def _name(self) -> None:
        """Give an id to what is sure enough to be shown for the first time."""
        table = self._table
        ready = (table.ids == 0) & (table.evidence >= self._rules.shown_from)
        ready &= table.hits >= self._rules.settings.confirm_frames
        (rows,) = ready.nonzero()
        whose = zip(rows.tolist(), self._streams.take(rows).tolist(), table.kinds.take(rows).tolist(), strict=True)
        for row, stream, kind in whose:
            next_ids = self._states[stream].next_ids
            table.ids[row] = next_ids[kind]
            next_ids[kind] += 1

    def _store(self) -> None:
        """Give each stream its tracks."""
        if len(self._states) == 1:
            self._states[0].table = self._table
            return
        ends = self._streams.searchsorted(np.arange(1, len(self._states) + 1)).tolist()
        for state, first, end in zip(self._states, [0, *ends], ends, strict=False):
            state.table = self._table.part(slice(first, end))

    def _shown(self, counts: Sequence[int]) -> list[tuple[Tracks, ...]]:
        table, found = self._table, self._found
        (shown,) = ((self._matched >= 0) & (table.ids > 0) & (table.evidence >= self._rules.shown_from)).nonzero()
        groups = self._groups(self._streams.take(shown), table.kinds.take(shown))
        shown = shown.take(groups.argsort(kind="stable"))
        ends = np.bincount(groups, minlength=len(counts)).cumsum().tolist()
        detections = self._matched.take(shown)
        limits = self._limits().take(self._streams.take(shown), 1)
        boxes = inside(table.filters.boxes.take(shown, 1), found.boxes, detections, limits)
        ids, rows = table.ids.take(shown), found.rows.take(detections)
        scores, labels = found.scores.take(detections).astype(np.float32), found.labels.take(detections)
        out, before, begin = [], 0, 0
        for group, (count, end) in enumerate(zip(counts, ends, strict=True)):
            part, begin = slice(begin, end), end
            own = rows[part] - before if before else rows[part]
            out.append(Tracks(ids[part], boxes[part], scores[part], labels[part], own, self._gone(group)))
            before += count
        return self._by_stream(out)


def inside(boxes: Double, detected: Double, rows: Rows, limits: Double) -> Float:
    """The boxes (4, S) inside their pictures as (S, 4); where nothing is left, the detection in ``rows`` (S,).

    ``limits`` are the largest corners, (4, S), or (4, 1) of one picture for all.
    """
    within = np.maximum(boxes, 0.0)
    np.minimum(within, limits, out=within)
    full = within[:2] < within[2:]
    if np.count_nonzero(full) < full.size:  # a filtered box can run ahead, out of the picture; a detection never does
        empty = ~full.all(axis=0)
        within[:, empty] = detected[:, rows[empty]]
    return np.asarray(within.T, np.float32, order="C")
