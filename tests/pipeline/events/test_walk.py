"""Thousands of random steps over the real event log, zones and lines included, against what must always hold."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from engines.spec import EntrySpec, ModelSpec, NetworkSettings
from pipeline.events.log import EventLog
from pipeline.events.zones import ZoneCounter
from pipeline.frames.events import Event
from pipeline.frames.types import Identified, Identity, Result
from pipeline.settings.schema import LineSettings, ZoneSettings
from pipeline.wire.build import to_message
from tests.pipeline.made_tracks import SIZE, Box, make_tracked

OBJECTS, SCENES, PEOPLE = ("person", "dog"), ("street", "room"), ("Ada", "Grace", "Zoë")
ENTRY = EntrySpec("x.onnx", "0", 32, 32, {})
SPEC = ModelSpec(1, "n", ENTRY, ENTRY, OBJECTS, SCENES, NetworkSettings())
STREAMS = ("door", "yard")
ZONES = (
    ZoneSettings(name="left", points=((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)), dwell_s=1.0),
    ZoneSettings(name="hook", points=((0.2, 0.2), (0.9, 0.2), (0.9, 0.9), (0.7, 0.4)), labels=("person",)),
)
LINES = (LineSettings(name="gate", points=((0.3, 0.1), (0.6, 0.9))),)
STEPS = 1250


class Stream:
    """Tracks that come, move, hide, change and end, told or swallowed by a crash; numbers are not used again."""

    def __init__(self, name: str, rng: np.random.Generator) -> None:
        self.name, self._rng = name, rng
        self.time_s, self._next = 0.0, [1, 1]
        self._places: tuple[dict[int, np.ndarray], dict[int, np.ndarray]] = ({}, {})
        self._labels: dict[int, int] = {}
        self._names: dict[int, str | None] = {}
        self._scene = -1

    def lose(self) -> None:
        """The stream is interrupted: nothing that was followed goes on."""
        for known in self._places:
            known.clear()
        self._names.clear()

    def result(self) -> Result | None:
        """The next finished frame; None: it was lost with a crash, and what ended in it with it."""
        rng = self._rng
        self.time_s += float(rng.choice((0.04, 0.04, 0.4)))
        (objects, ended), (faces, faces_ended) = self._move(0), self._move(1)
        for track in objects:
            if track not in self._labels or rng.random() < 0.05:
                self._labels[track] = int(rng.integers(len(OBJECTS)))
        for track in faces:
            if track not in self._names or rng.random() < 0.1:
                free = [name for name in PEOPLE if name not in self._names.values()]
                self._names[track] = free[0] if free and rng.random() < 0.7 else None
        if rng.random() < 0.05:
            self._scene = int(rng.integers(-1, len(SCENES)))
        if rng.random() < 0.02:
            return None
        tracked = make_tracked(
            self.time_s, objects, faces, objects_ended=ended, faces_ended=faces_ended, stream=self.name
        )
        names = [
            Identity(name, float(rng.random())) if (name := self._names[track]) is not None else None for track in faces
        ]
        labels = np.array([self._labels[track] for track in objects], np.int32)
        scores = rng.random(len(objects)).astype(np.float32)
        scene = np.array([0.6, 0.4], np.float32)
        return Result.finished(Identified.with_names(tracked, tuple(names)), labels, scores, scene, self._scene, 0)

    def _move(self, kind: int) -> tuple[dict[int, Box], list[int]]:
        rng, places = self._rng, self._places[kind]
        ended = [track for track in places if rng.random() < 0.04]
        for track in ended:
            del places[track]
            if kind == 1:
                self._names.pop(track, None)
        while len(places) < 6 and rng.random() < 0.3:
            places[self._next[kind]] = rng.uniform((0, 0), SIZE)
            self._next[kind] += 1
        for track in places:
            places[track] = np.clip(places[track] + rng.normal(0, rng.choice((2, 80)), 2), 0, SIZE)
        boxes = {track: _box(place) for track, place in places.items() if rng.random() < 0.85}
        return boxes, ended


def _box(foot: np.ndarray) -> Box:
    x, y = foot.tolist()
    return (x - 10, y - 50, x + 10, y)


class Ledger:
    """What a subscriber holds true; every event is checked when it comes."""

    def __init__(self) -> None:
        self.open: set[tuple[str, str, int | None]] = set()
        self.over: set[tuple[str, str, int | None]] = set()
        self.inside: set[tuple[str, int | None, str | None]] = set()
        self.present: defaultdict[tuple[str, str | None], Counter[str]] = defaultdict(Counter)
        self.crossed: defaultdict[tuple[str, str | None, str | None], Counter[str]] = defaultdict(Counter)
        self.ends = 0

    def take(self, event: Event) -> None:
        thing = (event.stream, event.kind, event.track)
        if event.kind in ("zone", "line"):
            self._take_movement(event)
        elif event.event == "new":
            assert thing not in self.open
            # Objects and faces have numbers of their own; a face may be named again, and a scene come again.
            assert thing not in self.over or event.kind in ("identity", "scene")
            self.open.add(thing)
        else:
            assert thing in self.open, f"{event.event} without new"
            assert event.first_ns is not None and event.last_ns is not None and event.duration_s is not None
            assert event.first_ns <= event.last_ns and event.duration_s >= 0.0
            if event.kind != "scene":
                assert event.path and len(event.path) <= 32
                times = [point[0] for point in event.path]
                assert times == sorted(times) and times[-1] == pytest.approx(event.duration_s, abs=0.01)
            if event.event == "ended":
                self.open.remove(thing)
                self.over.add(thing)
                self.ends += 1
                assert not [one for one in self.inside if event.kind == "object" and one[:2] == thing[::2]]

    def _take_movement(self, event: Event) -> None:
        assert (event.stream, "object", event.track) in self.open
        assert event.label is not None
        place = (event.stream, event.track, event.name)
        if event.event == "cross":
            self.crossed[event.stream, event.name, event.direction][event.label] += 1
            assert event.counts == {
                way: dict(self.crossed[event.stream, event.name, way]) for way in ("a_to_b", "b_to_a")
            }
            return
        assert (place in self.inside) == (event.event != "enter")
        if event.event == "enter":
            self.inside.add(place)
            self.present[event.stream, event.name][event.label] += 1
        elif event.event == "leave":
            self.inside.remove(place)
            self.present[event.stream, event.name][event.label] -= 1
        assert event.counts == {"present": +self.present[event.stream, event.name]}


@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_the_events_are_true(seed: int) -> None:
    rng = np.random.default_rng(seed)
    streams = [Stream(name, rng) for name in STREAMS]
    log = EventLog(OBJECTS, SCENES, {name: ZoneCounter(ZONES, LINES, OBJECTS) for name in STREAMS})
    ledger = Ledger()
    for _ in range(STEPS):
        stream, events = streams[rng.integers(len(streams))], []
        if rng.random() < 0.01:
            events = log.end(stream.name, "down")
            stream.lose()
        elif (result := stream.result()) is not None:
            message = to_message(result, SPEC, {})
            events = log.update(result)
            names = [face.identity.name for face in message.faces if face.identity]
            assert len(names) == len(set(names))
            tracks = [thing.track for thing in message.objects]
            assert len(tracks) == len(set(tracks))
            for kind, seen in (("object", tracks), ("face", [face.track for face in message.faces])):
                began = {event.track for event in events if (event.event, event.kind) == ("new", kind)}
                known = {track for of, what, track in ledger.open if (of, what) == (stream.name, kind)}
                assert set(seen) <= began | known
        for event in events:
            ledger.take(event)
    for stream in streams:
        for event in log.end(stream.name, "stopped"):
            ledger.take(event)
    assert not ledger.open and not ledger.inside
    assert ledger.ends > STEPS / 20
