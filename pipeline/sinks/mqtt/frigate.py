"""Frigate's topics, as blueprints and notifications made for it read them; docs/mqtt.md says what is not told.

The form is that of Frigate 0.14's documentation ("MQTT"): ``events`` and ``reviews`` with ``before`` and ``after``,
counts by camera and zone, snapshots, ``available``.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal
from zlib import crc32

import numpy as np

from engines.boxes import iou_matrix
from pipeline.settings.schema import StreamSettings
from pipeline.sinks.mqtt.frigate_reviews import Reviews
from pipeline.sinks.mqtt.outbox import Outbox
from pipeline.sinks.mqtt.settings import MqttSettings
from pipeline.sinks.mqtt.topics import as_json, level
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage, Message

Key = tuple[str, int]  # stream and track
Box = tuple[float, float, float, float]
STILL_S: Final = 10.0  # without having moved, until an object counts as stationary
STILL_IOU: Final = 0.6  # overlap with where it was from which on it has not moved


@dataclass(slots=True)
class _Tracked:
    """What was told of an object that has not ended."""

    id: str
    before: dict[str, Any] = field(default_factory=dict)
    zones: list[str] = field(default_factory=list)  # where it is
    entered: list[str] = field(default_factory=list)  # where it has been
    name: list[Any] | None = None  # and how sure that is
    snapshot: dict[str, Any] | None = None
    place: Box | None = None  # where it was when it moved last ...
    moved_s: float = 0.0  # ... which was then, Unix time
    still_frames: int = 0  # since
    position_changes: int = 1
    stationary: bool = False

    def look(self, box: Box, at_s: float) -> bool:
        """Notice where it is now; whether it has come to stand, or moves again."""
        moved = self.place is None or bool(iou_matrix(np.array([box]), np.array([self.place])) < STILL_IOU)
        if moved:
            self.place, self.moved_s, self.still_frames = box, at_s, 0
        else:
            self.still_frames += 1
        before, self.stationary = self.stationary, not moved and at_s - self.moved_s >= STILL_S
        self.position_changes += before and moved
        return before != self.stationary


class FrigateTopics:
    """Turns messages into the state and events of Frigate's topics."""

    def __init__(self, settings: MqttSettings, outbox: Outbox) -> None:
        self._prefix, self._out = settings.root, outbox
        self._told, self._snapshots = settings.labels, settings.snapshots
        self._labels: dict[str, set[str]] = {}  # by camera or zone: those whose counts were told
        self._zones: dict[str, dict[str, dict[str, int]]] = {}  # by zone, the counts of each stream with one of it
        self._streams: set[str] = set()
        self._tracked: dict[Key, _Tracked] = {}
        self._named: dict[Key, list[Any]] = {}  # by a person's track
        self._reviews = Reviews(lambda told: outbox.say(f"{self._prefix}/reviews", as_json(told)))
        self.available = f"{self._prefix}/available"

    def begin(self, stream: StreamSettings) -> None:
        self._known(stream.name)
        names = {zone.name for zone in stream.zones}
        self._leave_zones(stream.name, kept=names)
        for zone in names:
            self._zone(stream.name, zone, {})

    def tell(self, message: Message) -> None:
        self._known(message.stream)
        match message:
            case FrameMessage():
                self._counts(message.stream, Counter(each.label for each in message.objects))
                self._frame(message)
            case EventMessage():
                self._event(message)
            case HealthMessage(state="down" | "ended"):
                self._counts(message.stream, Counter())
                self._reviews.end(message.stream)
            case HealthMessage():
                pass

    def forget(self, stream: str) -> None:
        self._streams.discard(stream)
        self._reviews.end(stream)
        self._labels.pop(stream, None)
        self._out.clear(f"{self._prefix}/{stream}")
        self._leave_zones(stream)
        self._tracked = {key: value for key, value in self._tracked.items() if key[0] != stream}
        self._named = {key: value for key, value in self._named.items() if key[0] != stream}

    def roots(self) -> set[str]:
        return {f"{self._prefix}/{level(name)}" for name in (*self._streams.copy(), *self._zones.copy())}

    def _known(self, stream: str) -> None:
        if stream not in self._streams:
            self._streams.add(stream)
            self._counts(stream, Counter())

    def _counts(self, place: str, counts: Counter[str]) -> None:
        told = self._labels.setdefault(place, set(self._told))
        told |= counts.keys()
        root = f"{self._prefix}/{level(place)}"
        for label in told:
            self._out.set(f"{root}/{level(label)}", str(counts[label]))
        self._out.set(f"{root}/all", str(counts.total()))

    def _zone(self, stream: str, zone: str, present: dict[str, int]) -> None:
        self._zones.setdefault(zone, {})[stream] = present
        self._sum_zone(zone)

    def _leave_zones(self, stream: str, kept: Collection[str] = ()) -> None:
        for zone, counts in list(self._zones.items()):
            if zone in kept or counts.pop(stream, None) is None:
                continue
            if counts:
                self._sum_zone(zone)
            else:
                del self._zones[zone]
                self._labels.pop(zone, None)
                self._out.clear(f"{self._prefix}/{level(zone)}")

    def _sum_zone(self, zone: str) -> None:
        """Frigate's zones of one name are one, whichever camera sees them."""
        total: Counter[str] = Counter()
        for present in self._zones[zone].values():
            total.update(present)
        self._counts(zone, total)

    def _frame(self, message: FrameMessage) -> None:
        """Notice what moves."""
        at_s = _unix(message.captured_at)
        self._reviews.look(message.stream, at_s)
        for each in message.objects:
            tracked = self._tracked.get((message.stream, each.track))
            if tracked is None or not tracked.before:
                continue
            if tracked.look(each.box, at_s):
                self._say(tracked, tracked.before | {"frame_time": at_s} | _place_of(each.box) | _movement(tracked))
            elif not tracked.stationary:
                self._reviews.goes_on(message.stream, at_s)

    def _event(self, message: EventMessage) -> None:
        if message.kind == "zone" and message.counts is not None and message.name is not None:
            self._zone(message.stream, message.name, message.counts.get("present", {}))
        if message.kind == "identity":
            self._name(message)
        if message.track is None or message.kind not in ("object", "zone"):
            return
        key = message.stream, message.track
        tracked = self._tracked.get(key)
        if tracked is None:
            tracked = self._tracked[key] = _Tracked(_id(message), name=self._named.get(key))
        if message.kind == "zone":
            _visit(tracked, message)
            if not tracked.before:
                return  # the object's own event has not come: it says so
        if message.best_crop is not None and message.kind == "object":
            self._snapshot(message, tracked)
        ended = message.kind == "object" and message.event == "ended"
        self._say(tracked, _after(message, tracked))
        if ended:
            del self._tracked[key]
            self._named.pop(key, None)

    def _name(self, message: EventMessage) -> None:
        """A face has a name, or none any more: that is its person's ``sub_label``."""
        face = message.best_face
        if face is None or face.object is None:
            return
        key = message.stream, face.object
        name = None if message.event == "ended" else [message.label, message.score]
        if name is None and message.cause != "withdrawn":
            return  # the face has ended; who the person is stays known
        if name is None:
            self._named.pop(key, None)
        else:
            self._named[key] = name
        if (tracked := self._tracked.get(key)) is not None and tracked.before:
            tracked.name = name
            self._say(tracked, tracked.before | {"sub_label": name, "frame_time": _unix(message.captured_at)})

    def _snapshot(self, message: EventMessage, tracked: _Tracked) -> None:
        crop = message.best_crop
        assert crop is not None
        tracked.snapshot = {
            "frame_time": _unix(crop.captured_at),
            "box": list(map(round, crop.box)),
            "area": _area(crop.box),
            "region": list(map(round, crop.box)),
            "score": message.best_score,
            "attributes": [],
        }
        if self._snapshots:
            topic = f"{self._prefix}/{message.stream}/{level(message.label or 'object')}/snapshot"
            self._out.set(topic, crop.jpeg)

    def _say(self, tracked: _Tracked, after: dict[str, Any]) -> None:
        ended = after["end_time"] is not None
        kind: Literal["new", "update", "end"] = "end" if ended else "update" if tracked.before else "new"
        before = tracked.before or after
        self._out.say(f"{self._prefix}/events", as_json({"type": kind, "before": before, "after": after}))
        tracked.before = after
        if not ended:
            self._reviews.saw(after)


def _id(message: EventMessage) -> str:
    """As Frigate's: when it was first seen, and six characters that no other object of then has."""
    first = _unix(message.first_seen or message.captured_at)
    return f"{first:.6f}-{crc32(f'{message.stream}:{message.track}'.encode()) % 16**6:06x}"


def _visit(tracked: _Tracked, message: EventMessage) -> None:
    zone = message.name or ""
    if message.event == "enter" and zone not in tracked.zones:
        tracked.zones.append(zone)
        tracked.entered += [zone] if zone not in tracked.entered else []
    elif message.event == "leave" and zone in tracked.zones:
        tracked.zones.remove(zone)


def _after(message: EventMessage, tracked: _Tracked) -> dict[str, Any]:
    """An object as Frigate describes one. What Trunkline does not know has the value that means nothing."""
    ended = message.kind == "object" and message.event == "ended"
    before = tracked.before
    start = before.get("start_time", _unix(message.first_seen or message.captured_at))
    return {
        "id": tracked.id,
        "camera": message.stream,
        "frame_time": _unix(message.captured_at),
        "snapshot": tracked.snapshot,
        "label": message.label,
        "sub_label": tracked.name,
        "top_score": max(message.best_score or 0.0, message.score or 0.0, before.get("top_score", 0.0)),
        "false_positive": False,
        "start_time": start,
        "end_time": _unix(message.last_seen or message.captured_at) if ended else None,
        "score": message.score,
        "current_zones": list(tracked.zones),
        "entered_zones": list(tracked.entered),
        "has_clip": False,
        "has_snapshot": tracked.snapshot is not None,
        "attributes": {},
        "current_attributes": [],
        **_place_of(message.box or (0.0, 0.0, 0.0, 0.0)),
        **_movement(tracked),
        **({"active": False} if ended else {}),
    }


def _place_of(box: Box) -> dict[str, Any]:
    width, height = box[2] - box[0], box[3] - box[1]
    rounded = list(map(round, box))
    ratio = round(width / height, 2) if height > 0.0 else 0.0
    return {"box": rounded, "area": _area(box), "ratio": ratio, "region": rounded}


def _movement(tracked: _Tracked) -> dict[str, Any]:
    still = {"stationary": tracked.stationary, "motionless_count": tracked.still_frames}
    return still | {"active": not tracked.stationary, "position_changes": tracked.position_changes}


def _area(box: Box) -> int:
    return round((box[2] - box[0]) * (box[3] - box[1]))


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
