"""Who is in which zone of a picture, and who goes across which line; pure state, times are stream time.

An object is where its anchor is. It enters with the first position inside and has left when one lies outside by more
than the margin; it crosses with the first position beyond, and can cross again once it has been away from the line by
the margin. What lies between two positions counts as well, since frames may be missing there: docs/zones.md.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from engines.arrays import Double, Float, Labels, Rows
from engines.errors import ConfigError
from pipeline.frames.events import Cause, Direction
from pipeline.frames.polygons import crossed, distance, inside, sides
from pipeline.frames.types import Counts
from pipeline.settings.schema import LineSettings, StreamSettings, ZoneSettings

COLUMN: Final = {"foot": 1, "centre": 2}  # of y, beside the x that both share
NO_TRACK: Final = np.iinfo(np.int64).max  # beyond every id: whatever is looked up finds a row

# What is known of an object and a line.
BEYOND: Final = 1  # it is on side b as far as told
ARMED: Final = 2  # it has been away from the line since it last crossed
THROUGH: Final = 4  # it went across, and that has not been told yet
SIDE: Final = 8  # its last position is on side b
AT_REST_A, AT_REST_B = np.uint8(ARMED), np.uint8(BEYOND | ARMED | SIDE)


class Timestamp(NamedTuple):
    """When a frame was: Unix time in nanoseconds, and stream time in seconds."""

    at_ns: int
    time_s: float


@dataclass(frozen=True, slots=True)
class ZoneEvent:
    """One object and one zone or line."""

    event: Literal["enter", "leave", "dwell", "cross"]
    kind: Literal["zone", "line"]
    name: str  # of the zone or line
    track: int
    label: str  # the object's; with "leave" and "dwell" as it was when it entered
    since: Timestamp  # when it entered; for a line, now
    until: Timestamp  # now; when it was seen last, if it ended inside
    counts: Counts  # just after: docs/zones.md
    direction: Direction | None = None
    cause: Cause | None = None  # of "leave"


@dataclass(frozen=True, slots=True)
class _Step:
    """The objects of one frame."""

    now: Timestamp
    rows: Rows  # of the tracks
    before: Double  # (N, 3) anchors in the last frame they were seen in
    at: Double  # and in this one
    labels: Labels


class Outlines:
    """The zones and lines of one stream, as arrays in the pixels of pictures of one size."""

    def __init__(self, zones: Sequence[ZoneSettings], lines: Sequence[LineSettings], size: tuple[int, int]) -> None:
        shape = np.array(size, np.float64)
        corners = max((len(zone.points) for zone in zones), default=1)
        # Shorter outlines go on at their first point, with edges that have no length.
        rings = [[*zone.points, *[zone.points[0]] * (corners - len(zone.points))] for zone in zones]
        self.size = size
        self.starts: Double = np.array(rings, np.float64).reshape(len(zones), corners, 2) * shape
        self.ends = np.roll(self.starts, -1, axis=1)
        self.sides = sides(self.starts, self.ends)
        self.low, self.high = self.starts.min(axis=1).T, self.starts.max(axis=1).T  # (2, Z)
        self.zone_margins = np.array([zone.margin for zone in zones]) * size[1]
        ends = np.array([line.points for line in lines], np.float64).reshape(-1, 2, 2) * shape
        self.line_starts, self.line_ends = ends[:, 0], ends[:, 1]
        along = self.line_ends - self.line_starts
        along /= np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-12)
        # How far x, y is from a line, above 0 on its side b: x * normal_x + y * normal_y - offset.
        self.normal_x, self.normal_y = -along[:, 1], along[:, 0]
        self.offsets = self.normal_x * self.line_starts[:, 0] + self.normal_y * self.line_starts[:, 1]
        self.line_margins = np.array([line.margin for line in lines]) * size[1]


class _Tracks:
    """What is kept of each object: rows ascending by id, and a last one for none."""

    def __init__(self, zones: int, lines: int) -> None:
        self.ids = np.array([NO_TRACK])
        self.at = np.zeros((1, 3))  # where it was seen last, source pixels: x, y of the foot, y of the centre
        self.seen = np.zeros((1, 2))  # when: a Timestamp
        self.inside = np.zeros((1, zones), np.bool_)
        self.since = np.zeros((1, zones, 2))  # when it entered: a Timestamp
        self.label = np.zeros((1, zones), np.int64)  # with which it entered
        self.dwelt = np.zeros((1, zones), np.bool_)
        self.lines = np.zeros((1, lines), np.uint8)  # bits: BEYOND, ARMED, THROUGH, SIDE

    def arrange(self, rows: Rows) -> None:
        """Take these rows of everything, in this order."""
        for name, column in vars(self).items():
            setattr(self, name, column[rows])


class ZoneCounter:
    """The zones and lines of one stream, and the objects in and around them.

    Args:
        zones: polygons, in shares of the picture.
        lines: from a point to another, likewise.
        labels: of the objects, in the order of the network's classes.
    """

    def __init__(self, zones: Sequence[ZoneSettings], lines: Sequence[LineSettings], labels: tuple[str, ...]) -> None:
        self.zones, self.lines, self._labels = tuple(zones), tuple(lines), labels
        self._may_enter, self._may_cross = _allowed(zones, labels), _allowed(lines, labels)
        self._zone_anchors = np.array([COLUMN[zone.anchor] for zone in zones], np.int64)
        self._line_anchors = np.array([COLUMN[line.anchor] for line in lines], np.int64)
        self._dwell_s = np.array([np.inf if zone.dwell_s is None else zone.dwell_s for zone in zones])
        self._outlines: Outlines | None = None
        self._tracks = _Tracks(len(zones), len(lines))
        self._present: list[Counter[str]] = [Counter() for _ in zones]
        self._crossed: list[dict[Direction, Counter[str]]] = [{"a_to_b": Counter(), "b_to_a": Counter()} for _ in lines]

    def counts(self) -> dict[str, Counts]:
        """Of each zone, the objects in it now; of each line, how many went across it: by label."""
        zones = {zone.name: self._zone_counts(row) for row, zone in enumerate(self.zones)}
        return zones | {line.name: self._line_counts(row) for row, line in enumerate(self.lines)}

    def count_on(self, counts: Mapping[str, Counts]) -> None:
        """Let lines go on from the counts, by name, of whoever counted before."""
        for line, crossed_by in zip(self.lines, self._crossed, strict=True):
            for direction, counter in crossed_by.items():
                counter.update(counts.get(line.name, {}).get(direction, {}))

    def update(self, now: Timestamp, size: tuple[int, int], ids: Rows, boxes: Float, labels: Labels) -> list[ZoneEvent]:
        """Take the objects of the next frame.

        Args:
            now: when it was.
            size: width and height of the picture.
            ids: (N,) of the tracks that are seen in it.
            boxes: (N, 4) xyxy source pixels.
            labels: (N,) smoothed.
        """
        if not len(ids):
            return []
        outlines, at = self._fit(size), _anchors(boxes)
        rows = self._rows(outlines, ids, at)
        before = self._tracks.at[rows]
        self._tracks.at[rows], self._tracks.seen[rows] = at, now
        step = _Step(now, rows, before, at, labels)
        found = self._zone_movements(outlines, step) if self.zones else []
        return found + self._line_movements(outlines, step) if self.lines else found

    def ended(self, ids: Rows, cause: Cause = "gone") -> list[ZoneEvent]:
        """These tracks are no more: they leave where they were."""
        if not len(ids):
            return []
        gone = np.isin(self._tracks.ids[:-1], ids)
        rows, zones = self._tracks.inside[:-1][gone].nonzero()
        rows = gone.nonzero()[0][rows]
        left = [self._leave(row, zone, cause) for row, zone in zip(rows.tolist(), zones.tolist(), strict=True)]
        self._tracks.arrange(np.append(~gone, True).nonzero()[0])
        return left

    def _fit(self, size: tuple[int, int]) -> Outlines:
        if self._outlines is None or self._outlines.size != size:
            if self._outlines is not None:  # the camera's picture has another size now
                wide, high = size[0] / self._outlines.size[0], size[1] / self._outlines.size[1]
                self._tracks.at *= (wide, high, high)
            self._outlines = Outlines(self.zones, self.lines, size)
        return self._outlines

    def _rows(self, outlines: Outlines, ids: Rows, at: Double) -> Rows:
        """The row of each track; new ones get one, where they are now."""
        tracks = self._tracks
        rows = tracks.ids.searchsorted(ids)
        (fresh,) = (tracks.ids[rows] != ids).nonzero()
        if len(fresh):
            before = len(tracks.ids) - 1
            tracks.arrange(np.concatenate([np.arange(before), np.full(len(fresh) + 1, before)]))
            born = slice(before, before + len(fresh))
            tracks.ids[born], tracks.at[born] = ids[fresh], at[fresh]
            away = self._away(outlines, at[fresh])
            armed = np.abs(away) >= outlines.line_margins
            tracks.lines[born] = np.where(away > 0.0, BEYOND | SIDE, 0) | np.where(armed, ARMED, 0)
            tracks.arrange(np.argsort(tracks.ids))
            rows = tracks.ids.searchsorted(ids)
        return rows

    def _zone_movements(self, outlines: Outlines, step: _Step) -> list[ZoneEvent]:
        tracks, anchors = self._tracks, self._zone_anchors
        low, high = np.minimum(step.before, step.at), np.maximum(step.before, step.at)
        maybe = high[:, :1] >= outlines.low[0]
        maybe &= low[:, :1] <= outlines.high[0]
        maybe &= high[:, anchors] >= outlines.low[1]
        maybe &= low[:, anchors] <= outlines.high[1]
        maybe |= tracks.inside[step.rows]
        things, zones = maybe.nonzero()
        if not len(things):
            return []
        rows, places = step.rows[things], step.at[things[:, None], _xy(anchors, zones)]
        was, within = tracks.inside[rows, zones], inside(places, outlines.sides[zones])
        dwells = was & ~tracks.dwelt[rows, zones]
        dwells &= step.now.time_s - tracks.since[rows, zones, 1] >= self._dwell_s[zones]
        # A shorter way than the margin through a zone is a tremble at its corner.
        far = ((high - low)[:, :2].max(axis=1)[things] > outlines.zone_margins[zones]) & ~was
        if ((was == within) & ~far).all() and not dwells.any():
            return []
        starts, ends = outlines.starts[zones], outlines.ends[zones]
        allowed = self._may_enter[zones, step.labels[things]]
        enters, leaves = within & ~was & allowed, np.zeros(len(things), np.bool_)
        (passing,) = (far & ~within & allowed).nonzero()
        if len(passing):
            old = step.before[things[passing, None], _xy(anchors, zones[passing])]
            ways = crossed(old, places[passing], starts[passing], ends[passing])
            enters[passing] = ways.sum(axis=1) >= 2  # in and out again, between two frames
        (out,) = ((was | enters) & ~within).nonzero()
        if len(out):
            leaves[out] = distance(places[out], starts[out], ends[out]) > outlines.zone_margins[zones[out]]
        found = []
        for pair in (enters | leaves | dwells).nonzero()[0].tolist():
            row, zone = int(rows[pair]), int(zones[pair])
            if enters[pair]:
                found.append(self._enter(row, zone, step.now, int(step.labels[things[pair]])))
            if dwells[pair]:
                tracks.dwelt[row, zone] = True
                found.append(self._zone_movement("dwell", row, zone))
            if leaves[pair]:
                found.append(self._leave(row, zone, "left"))
        return found

    def _enter(self, row: int, zone: int, now: Timestamp, label: int) -> ZoneEvent:
        tracks = self._tracks
        tracks.inside[row, zone], tracks.dwelt[row, zone] = True, False
        tracks.label[row, zone], tracks.since[row, zone] = label, now
        self._present[zone][self._labels[label]] += 1
        return self._zone_movement("enter", row, zone)

    def _leave(self, row: int, zone: int, cause: Cause) -> ZoneEvent:
        self._tracks.inside[row, zone] = False
        self._present[zone][self._labels[self._tracks.label[row, zone]]] -= 1
        return self._zone_movement("leave", row, zone, cause)

    def _zone_movement(
        self, event: Literal["enter", "leave", "dwell"], row: int, zone: int, cause: Cause | None = None
    ) -> ZoneEvent:
        tracks = self._tracks
        return ZoneEvent(
            event,
            "zone",
            self.zones[zone].name,
            int(tracks.ids[row]),
            self._labels[tracks.label[row, zone]],
            _moment(tracks.since[row, zone]),
            _moment(tracks.seen[row]),
            self._zone_counts(zone),
            cause=cause,
        )

    def _line_movements(self, outlines: Outlines, step: _Step) -> list[ZoneEvent]:
        away, kept = self._away(outlines, step.at), self._tracks.lines[step.rows]
        side = away > 0.0
        things, lines = (kept != np.where(side, AT_REST_B, AT_REST_A)).nonzero()
        if not len(things):
            return []  # as with most frames: nobody went across, or has yet to go away
        bits, side = kept[things, lines], side[things, lines]
        far = np.abs(away[things, lines]) >= outlines.line_margins[lines]
        through = (bits & THROUGH) != 0
        (over,) = (((bits & SIDE) != 0) != side).nonzero()
        if len(over):
            cells, of = (things[over, None], _xy(self._line_anchors, lines[over])), lines[over, None]
            ways = crossed(step.before[cells], step.at[cells], outlines.line_starts[of], outlines.line_ends[of])
            through[over] ^= ways[:, 0]
        other = ((bits & BEYOND) != 0) != side
        crosses = other & through & (far | ((bits & ARMED) != 0))
        settles = crosses | (other & far)  # or it went round an end of the line
        armed = far | (~settles & ((bits & ARMED) != 0))
        beyond = side ^ (other & ~settles)
        through &= ~settles & (other | ~far)
        self._tracks.lines[step.rows[things], lines] = BEYOND * beyond + ARMED * armed + THROUGH * through + SIDE * side
        return [
            self._cross(int(self._tracks.ids[step.rows[thing]]), line, int(step.labels[thing]), to_b, step.now)
            for thing, line, to_b in zip(*(each[crosses].tolist() for each in (things, lines, side)), strict=True)
            if self._may_cross[line, step.labels[thing]]
        ]

    def _cross(self, track: int, line: int, label: int, to_b: bool, now: Timestamp) -> ZoneEvent:
        direction: Direction = "a_to_b" if to_b else "b_to_a"
        name = self._labels[label]
        self._crossed[line][direction][name] += 1
        return ZoneEvent(
            "cross", "line", self.lines[line].name, track, name, now, now, self._line_counts(line), direction
        )

    def _away(self, outlines: Outlines, at: Double) -> Double:
        """How far the anchors of objects (N, 3) are from each line, in pixels: (N, L), above 0 on side b."""
        away = at[:, self._line_anchors] * outlines.normal_y
        away += at[:, :1] * outlines.normal_x
        away -= outlines.offsets
        return away

    def _zone_counts(self, zone: int) -> Counts:
        return {"present": {label: count for label, count in self._present[zone].items() if count}}

    def _line_counts(self, line: int) -> Counts:
        return {direction: dict(counter) for direction, counter in self._crossed[line].items()}


def zone_counter_of(settings: StreamSettings, labels: tuple[str, ...]) -> ZoneCounter | None:
    """The zones and lines of a stream; None where it has neither."""
    return ZoneCounter(settings.zones, settings.lines, labels) if settings.zones or settings.lines else None


def check_zones(streams: Sequence[StreamSettings], labels: tuple[str, ...]) -> None:
    """Refuse with a ConfigError a zone or line for a label that is not among the ``labels`` of the model."""
    for index, stream in enumerate(streams):
        for row, zone in enumerate(stream.zones):
            _check_labels(f"streams[{index}].zones[{row}].labels", zone.labels or (), labels)
        for row, line in enumerate(stream.lines):
            _check_labels(f"streams[{index}].lines[{row}].labels", line.labels or (), labels)


def _check_labels(key: str, wanted: Sequence[str], known: tuple[str, ...]) -> None:
    for position, label in enumerate(wanted):
        if label not in known:
            raise ConfigError(
                f"{key}[{position}] is {label!r}, but must be one of the model's labels: {', '.join(known)}"
            )


def _allowed(places: Sequence[ZoneSettings | LineSettings], labels: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    """Which labels (P, C) count for which place."""
    return np.array(
        [[place.labels is None or label in place.labels for label in labels] for place in places], np.bool_
    ).reshape(len(places), len(labels))


def _anchors(boxes: Float) -> Double:
    """Of boxes (N, 4): x, y of the foot and y of the centre (N, 3)."""
    at = np.empty((len(boxes), 3))
    np.add(boxes[:, :2], boxes[:, 2:], out=at[:, ::2])
    at[:, ::2] /= 2
    at[:, 1] = boxes[:, 3]
    return at


def _xy(anchors: Rows, places: Rows) -> Rows:
    """The two columns of an anchor's x and y, for each of ``places`` (M,): (M, 2)."""
    columns = np.zeros((len(places), 2), np.int64)
    columns[:, 1] = anchors[places]
    return columns


def _moment(row: Double) -> Timestamp:
    return Timestamp(int(row[0]), float(row[1]))
