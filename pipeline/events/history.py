"""What is known of tracks over their lives: when and where they were, and how well they were seen; pure state.

A frame is only noted. What it says is worked in, some dozens of frames and all tracks at once, when somebody asks or
FOLD frames wait; so a frame costs a few microseconds, however many tracks there are.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from engines.arrays import Double, Float, Labels, Rows
from pipeline.events.zones import Timestamp
from pipeline.frames.events import Box, PathPoint
from pipeline.frames.rounding import rounded

NO_TRACK: Final = np.iinfo(np.int64).max  # beyond every id: whatever is looked up finds a row
FOLD: Final = 128  # frames
POINTS: Final = 32  # of a path at the most: where the track is now, and one less before
STEP_S: Final = 0.2  # between two points of a path, doubled whenever there are too many

TRACK: Final = np.dtype(
    [
        ("first_ns", np.int64),
        ("first_s", np.float64),
        ("last_ns", np.int64),
        ("last_s", np.float64),
        ("last_update", np.int64),
        ("box", np.float32, (4,)),
        ("score", np.float32),
        ("best", np.float32),  # the highest of its scores
        ("worth", np.float64),  # of its best view
        ("count", np.int64),  # points of the path so far
        ("halvings", np.int64),  # how often the path was thinned
        ("path", np.float64, (POINTS - 1, 3)),  # stream time, x, y
    ]
)


class FaceViews(NamedTuple):
    """Of the faces of a frame what is kept of the best view of each."""

    landmarks: Float  # (D, 5, 2) of the detections
    rows: Rows  # (N,) the detection of each
    owners: Rows  # (N,) the person each belongs to, 0 for none


class BestView(NamedTuple):
    """The best view of a face."""

    box: Float  # (4,)
    score: float
    landmarks: Float  # (5, 2)
    owner: int


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """What is known of one track."""

    first_ns: int  # Unix time
    last_ns: int
    duration_s: float  # stream time
    box: Box  # the last
    score: float  # the last
    best_score: float
    path: tuple[PathPoint, ...]
    best_view: BestView | None  # of a face


class _Noted(NamedTuple):
    """A frame that is not worked in yet."""

    now: Timestamp
    update: int
    rows: Rows  # of the tracks
    boxes: Float
    scores: Float
    views: FaceViews | None


@dataclass(frozen=True, slots=True)
class Fresh:
    """Which rows of a frame begin a track, and which have another label than they had."""

    new: list[int]
    changed: list[int]
    previous: list[int]  # label of each that changed


NOTHING: Final = Fresh([], [], [])


class TrackHistory:
    """The tracks of one kind in one stream.

    Args:
        foot: whether a path is that of the boxes' lower edges rather than of their centres.
    """

    def __init__(self, foot: bool) -> None:
        self._foot = foot
        self._ids: Rows = np.array([NO_TRACK])  # ascending, and a last row for none; row by row with all below
        self._labels: Labels = np.zeros(1, np.int32)
        self._tracks = np.zeros(1, TRACK)
        self._views: dict[int, BestView] = {}  # the best of each face
        self._noted: list[_Noted] = []
        self._updates = 0
        self._step = -1  # of time, that the last frame was in

    @property
    def ids(self) -> list[int]:
        """Of all tracks, ascending."""
        ids: list[int] = self._ids[:-1].tolist()
        return ids

    def note(
        self, now: Timestamp, ids: Rows, boxes: Float, scores: Float, seen_as: Labels | FaceViews, skipped: bool
    ) -> Fresh:
        """Take the tracks that are seen in a frame; the arrays are kept, and must not be written any more.

        Args:
            now: when it was.
            ids: (N,) each once.
            boxes: (N, 4) xyxy source pixels.
            scores: (N,)
            seen_as: (N,) labels of objects; what is kept of the best view of each face.
            skipped: whether the frame was not inferred.
        """
        self._updates += not skipped
        if not len(ids):
            return NOTHING
        rows = self._ids.searchsorted(ids)
        new = self._ids.take(rows) != ids
        other = new if isinstance(seen_as, FaceViews) else (self._labels.take(rows) != seen_as) | new
        fresh = NOTHING
        if np.count_nonzero(other):
            labels = np.zeros(len(ids), np.int32) if isinstance(seen_as, FaceViews) else seen_as
            changed = (other & ~new).nonzero()[0]
            fresh = Fresh(new.nonzero()[0].tolist(), changed.tolist(), self._labels[rows[changed]].tolist())
            self._labels[rows[changed]] = labels[changed]
            if fresh.new:
                self._add(now, ids[new], boxes[new], labels[new])
                rows = self._ids.searchsorted(ids)
        views = seen_as if isinstance(seen_as, FaceViews) else None
        self._noted.append(_Noted(now, self._updates, rows, boxes, scores, views))
        if len(self._noted) >= FOLD:
            self._fold()
        return fresh

    def label(self, track: int) -> int:
        """The last label of a track."""
        return int(self._labels[self._ids.searchsorted(track)])

    def last(self, track: int) -> tuple[Box, float]:
        """The last box and score of a track."""
        self._fold()
        known = self._tracks[self._ids.searchsorted(track)]
        x0, y0, x1, y1 = rounded(known["box"], 1).tolist()
        return (x0, y0, x1, y1), float(rounded(known["score"], 3))

    def of(self, track: int, since_s: float = 0.0) -> TrackRecord:
        """What is known of a track.

        Args:
            track: one that is there.
            since_s: seconds after its beginning from which on its path is wanted.
        """
        box, score = self.last(track)
        known = self._tracks[self._ids.searchsorted(track)]
        return TrackRecord(
            first_ns=int(known["first_ns"]),
            last_ns=int(known["last_ns"]),
            duration_s=_passed(known),
            box=box,
            score=score,
            best_score=float(rounded(known["best"], 3)),
            path=self._path(known, since_s),
            best_view=self._views.get(track),
        )

    def silent(self, now_s: float, patience_s: float, updates: int) -> list[int]:
        """Tracks not seen for this long, nor in so many frames that were inferred."""
        if self._noted and not (now_s - self._tracks["last_s"][:-1] > patience_s).any():
            return []  # whatever the noted frames say
        self._fold()
        tracks = self._tracks[:-1]
        unseen = (now_s - tracks["last_s"] > patience_s) & (self._updates - tracks["last_update"] > updates)
        silent: list[int] = self._ids[:-1][unseen].tolist()
        return silent

    def forget(self, tracks: Sequence[int]) -> None:
        """Drop tracks."""
        self._fold()
        kept = ~np.isin(self._ids, tracks)
        self._ids, self._labels, self._tracks = self._ids[kept], self._labels[kept], self._tracks[kept]
        for track in tracks:
            self._views.pop(track, None)

    def _add(self, now: Timestamp, ids: Rows, boxes: Float, labels: Labels) -> None:
        self._fold()
        born = np.zeros(len(ids), TRACK)
        born["first_ns"], born["first_s"], born["last_s"] = now.at_ns, now.time_s, now.time_s
        born["path"][:, 0, 0], born["path"][:, 0, 1:], born["count"] = now.time_s, self._points(boxes), 1
        order = np.argsort(np.concatenate([ids, self._ids]))
        self._ids = np.concatenate([ids, self._ids])[order]
        self._labels = np.concatenate([labels, self._labels])[order]
        self._tracks = np.concatenate([born, self._tracks])[order]

    def _fold(self) -> None:
        """Work in what was noted."""
        noted, self._noted = self._noted, []
        if not noted:
            return
        counts = [len(one.rows) for one in noted]
        rows, frames = np.concatenate([one.rows for one in noted]), np.repeat(np.arange(len(noted)), counts)
        boxes, scores = np.concatenate([one.boxes for one in noted]), np.concatenate([one.scores for one in noted])
        tracks, last = self._tracks, np.full(len(self._tracks), -1)
        np.maximum.at(last, rows, np.arange(len(rows)))  # of what is seen, in the order of time
        (seen,) = (last >= 0).nonzero()
        last = last[seen]
        if noted[0].views is not None:
            self._keep_best(noted, rows, frames, boxes, scores)
        times = np.array([one.now.time_s for one in noted])
        self._extend(times, rows, frames, boxes)
        tracks["last_ns"][seen] = np.array([one.now.at_ns for one in noted])[frames[last]]
        tracks["last_s"][seen] = times[frames[last]]
        tracks["last_update"][seen] = np.array([one.update for one in noted])[frames[last]]
        tracks["box"][seen], tracks["score"][seen] = boxes[last], scores[last]
        best = tracks["best"].copy()
        np.maximum.at(best, rows, scores)
        tracks["best"] = best

    def _keep_best(self, noted: list[_Noted], rows: Rows, frames: Rows, boxes: Float, scores: Float) -> None:
        worth = scores * np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))  # large and sure
        best = self._tracks["worth"].copy()
        np.maximum.at(best, rows, worth)
        (better,) = ((worth == best[rows]) & (worth > self._tracks["worth"][rows])).nonzero()
        self._tracks["worth"] = best
        begins = frames.searchsorted(frames[better])
        for at, begin in zip(better.tolist(), begins.tolist(), strict=True):
            views, row = noted[frames[at]].views, at - begin
            assert views is not None, "of faces all have views"
            self._views[int(self._ids[rows[at]])] = BestView(
                boxes[at].copy(), float(scores[at]), views.landmarks[views.rows[row]].copy(), int(views.owners[row])
            )

    def _extend(self, times: Double, rows: Rows, frames: Rows, boxes: Float) -> None:
        """Take the first frame of each step of time into the paths of the tracks that are seen in it."""
        steps = (times // STEP_S).astype(np.int64)
        begins = np.diff(steps, prepend=self._step) != 0
        self._step = int(steps[-1])
        (found,) = begins[frames].nonzero()
        if not len(found):
            return
        place = begins.cumsum() - 1  # of a frame among the first ones
        times, steps, tracks = times[begins], steps[begins], self._tracks
        where = np.full((len(times), len(tracks)), -1)  # of each track in each of them, in the arrays above
        where[place[frames[found]], rows[found]] = found
        before = (tracks["path"][np.arange(len(tracks)), tracks["count"] - 1, :1].T // STEP_S).astype(np.int64)
        before >>= tracks["halvings"]
        cells = np.where(where >= 0, steps[:, None] >> tracks["halvings"], -1)
        kept = cells > np.maximum.accumulate(np.concatenate([before, cells[:-1]]))
        longer = tracks["count"] + kept.sum(axis=0)
        for row in (longer >= POINTS).nonzero()[0].tolist():
            (at,) = kept[:, row].nonzero()
            self._squeeze(row, np.column_stack([times[at], self._points(boxes[where[at, row]])]))
            kept[:, row], longer[row] = False, tracks["count"][row]
        at, columns = kept.nonzero()
        points = np.column_stack([times[at], self._points(boxes[where[at, columns]])])
        tracks["path"][columns, (tracks["count"] + kept.cumsum(axis=0) - 1)[at, columns]] = points
        tracks["count"] = longer

    def _squeeze(self, row: int, points: Double) -> None:
        """Add points to a path that has no room for them, with longer steps of time: the first point of each stays."""
        track = self._tracks[row]
        path = np.concatenate([track["path"][: track["count"]], points])
        steps = (path[:, 0] // STEP_S).astype(np.int64)
        kept = np.ones(len(path), np.bool_)
        while kept.sum() >= POINTS:
            track["halvings"] += 1
            kept[1:] = np.diff(steps >> int(track["halvings"])) != 0
        track["path"][: kept.sum()], track["count"] = path[kept], kept.sum()

    def _path(self, known: np.void, since_s: float) -> tuple[PathPoint, ...]:
        begin_s, end_s = float(known["first_s"]) + since_s, float(known["last_s"])
        path = known["path"][: known["count"]]
        path = path[(path[:, 0] >= begin_s) & (path[:, 0] < end_s)]
        points = np.concatenate([path[:, 1:], self._points(known["box"][None])])
        seconds = np.maximum(np.append(path[:, 0], end_s) - begin_s, 0.0)
        return tuple(zip(rounded(seconds, 2).tolist(), *rounded(points, 1).T.tolist(), strict=True))

    def _points(self, boxes: Float) -> Double:
        """Of boxes (N, 4) the middle of the lower edge, or the middle: (N, 2)."""
        x, y = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3] if self._foot else (boxes[:, 1] + boxes[:, 3]) / 2
        return np.column_stack([x, y]).astype(np.float64)


def _passed(known: np.void) -> float:
    return max(0.0, float(known["last_s"] - known["first_s"]))
