from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest

from engines.meanings import NONE_OF_THESE
from pipeline.events.log import EventLog
from pipeline.events.zones import ZoneCounter
from pipeline.frames.events import Event
from pipeline.frames.types import Identified, Identity, Result
from pipeline.settings.schema import LineSettings, ZoneSettings
from pipeline.wire.build import event_message
from pipeline.wire.messages import EventMessage, FaceMessage, decode, encode
from tests.pipeline.made_tracks import Box, make_tracked

OBJECTS = ("person", "dog")
SCENES = ("street", "room")
BOX: Box = (100, 50, 200, 350)
FACE: Box = (130, 60, 170, 110)
NEAR: Box = (120, 50, 200, 150)


def result(
    time_s: float,
    objects: dict[int, Box] | None = None,
    faces: dict[int, Box] | None = None,
    *,
    labels: Sequence[int] | None = None,
    identities: Sequence[Identity | None] | None = None,
    scene: int = -1,
    objects_ended: Sequence[int] = (),
    faces_ended: Sequence[int] = (),
    stream: str = "door",
) -> Result:
    tracked = make_tracked(
        time_s, objects, faces, objects_ended=objects_ended, faces_ended=faces_ended, stream=stream, scene=(0.8, 0.2)
    )
    count = len(objects or {})
    return Result.finished(
        Identified.with_names(tracked, tuple(identities or [None] * len(faces or {}))),
        np.array(labels or [0] * count, np.int32),
        np.full(count, 0.75, np.float32),
        np.array([0.8, 0.2], np.float32),
        scene,
        0,
    )


def update(log: EventLog, item: Result) -> list[EventMessage]:
    return [event_message(event) for event in log.update(item)]


def told(log: EventLog, *results: Result) -> list[tuple[str, str, int | None, str | None, str | None]]:
    events = [event for item in results for event in update(log, item)]
    return [(event.event, event.kind, event.track, event.label, event.previous) for event in events]


@pytest.fixture
def log() -> EventLog:
    return EventLog(OBJECTS, SCENES)


def test_an_object_begins_changes_and_ends_once_each(log: EventLog) -> None:
    assert told(
        log,
        result(0.0),
        result(0.1, {3: BOX}),
        result(0.2, {3: BOX}),
        result(0.3),  # out of sight is not ended
        result(0.4, {3: BOX}, labels=[1]),
        result(0.5, {3: BOX}, labels=[1]),
        result(2.1, objects_ended=[3]),
        result(2.2),
    ) == [
        ("new", "object", 3, "person", None),
        ("changed", "object", 3, "dog", "person"),
        ("ended", "object", 3, "dog", None),
    ]


def test_an_object_event_says_where_when_and_how_sure(log: EventLog) -> None:
    (event,) = update(log, result(1.5, {3: (100.04, 50, 200, 350)}))
    assert event == EventMessage(
        stream="door",
        seq=150,
        captured_at="1970-01-01T00:00:01.500Z",
        event="new",
        kind="object",
        track=3,
        label="person",
        score=0.75,
        box=(100.0, 50.0, 200.0, 350.0),
        first_seen="1970-01-01T00:00:01.500Z",
        last_seen="1970-01-01T00:00:01.500Z",
        duration_s=0.0,
        best_score=0.75,
        path=((0.0, 150.0, 350.0),),
    )


def test_events_are_plain_values_with_times_in_nanoseconds(log: EventLog) -> None:
    log.update(result(0.0, faces={4: FACE}))
    (named,) = log.update(result(1.5, faces={4: FACE}, identities=[Identity("Ada", 0.7)]))
    assert isinstance(named, Event)
    assert (named.at_ns, named.first_ns, named.last_ns) == (1_500_000_000,) * 3
    assert named.best_face is not None
    assert (named.best_face.box, named.best_face.identity) == (FACE, Identity("Ada", 0.7))


def test_an_object_ends_where_it_was_last(log: EventLog) -> None:
    update(log, result(0.0, {3: BOX}))
    update(log, result(0.1, {3: (110, 50, 210, 350)}))
    (event,) = update(log, result(2.0, objects_ended=[3]))
    assert event.box == (110.0, 50.0, 210.0, 350.0)


def test_a_face_with_a_name_begins_and_ends(log: EventLog) -> None:
    ada = Identity("Ada", 0.7)
    assert told(
        log,
        result(0.0, faces={4: FACE}),
        result(0.1, faces={4: FACE}, identities=[ada]),
        result(0.2, faces={4: FACE}, identities=[Identity("Ada", 0.6)]),
        result(2.0, faces_ended=[4]),
    ) == [
        ("new", "face", 4, None, None),
        ("new", "identity", 4, "Ada", None),
        ("ended", "identity", 4, "Ada", None),
        ("ended", "face", 4, None, None),
    ]


def test_a_face_named_in_its_first_frame_begins_before_its_name(log: EventLog) -> None:
    assert told(log, result(0.0, faces={4: FACE}, identities=[Identity("Ada", 0.7)])) == [
        ("new", "face", 4, None, None),
        ("new", "identity", 4, "Ada", None),
    ]


def test_a_name_that_changes_and_one_that_is_taken_back(log: EventLog) -> None:
    update(log, result(0.0, faces={4: FACE}, identities=[Identity("Ada", 0.7)]))
    assert told(
        log, result(0.1, faces={4: FACE}, identities=[Identity("Grace", 0.8)]), result(0.2, faces={4: FACE})
    ) == [("changed", "identity", 4, "Grace", "Ada"), ("ended", "identity", 4, "Grace", None)]


def test_face_events_carry_the_best_view_so_far_under_the_present_name(log: EventLog) -> None:
    update(log, result(0.0, faces={4: FACE}))
    update(log, result(0.1, faces={4: NEAR}))
    (named,) = update(log, result(0.2, faces={4: FACE}, identities=[Identity("Ada", 0.71)]))
    assert isinstance(named.best_face, FaceMessage)
    assert named.box == FACE
    assert named.best_face.box == NEAR
    assert named.best_face.identity is not None
    assert (named.best_face.identity.name, named.score) == ("Ada", 0.71)
    assert len(named.best_face.landmarks) == 5
    _, ended = update(log, result(2.0, faces_ended=[4]))
    assert ended.best_face == named.best_face


def test_a_scene_begins_changes_and_ends(log: EventLog) -> None:
    assert told(log, *(result(i / 10, scene=scene) for i, scene in enumerate([-1, 0, 0, 1, -1, -1]))) == [
        ("new", "scene", None, "street", None),
        ("changed", "scene", None, "room", "street"),
        ("ended", "scene", None, "room", None),
    ]


def test_none_of_these_is_the_end_of_a_scene_and_no_scene() -> None:
    log = EventLog(OBJECTS, ("street", NONE_OF_THESE))
    ended = [
        event
        for i, scene in enumerate([1, 0, 1, 1, 0, -1, 1, -1])
        for event in update(log, result(i / 10, scene=scene))
    ]
    assert [(event.event, event.label, event.previous, event.cause) for event in ended] == [
        ("new", "street", None, None),
        ("ended", "street", None, "withdrawn"),
        ("new", "street", None, None),
        ("ended", "street", None, "withdrawn"),
    ]


def test_streams_do_not_mix(log: EventLog) -> None:
    update(log, result(0.0, {1: BOX}, stream="door"))
    assert told(log, result(0.0, {1: BOX}, stream="yard")) == [("new", "object", 1, "person", None)]


def test_ends_come_before_beginnings(log: EventLog) -> None:
    update(log, result(0.0, {1: BOX}))
    assert [row[:3] for row in told(log, result(2.0, {2: BOX}, objects_ended=[1]))] == [
        ("ended", "object", 1),
        ("new", "object", 2),
    ]


def test_the_end_of_a_track_that_was_never_seen_is_no_event(log: EventLog) -> None:
    assert told(log, result(0.0, objects_ended=[1], faces_ended=[1])) == []


def test_events_survive_the_wire(log: EventLog) -> None:
    for item in (result(0.0, {1: BOX}, {2: FACE}, identities=[Identity("Ada", 0.7)], scene=0),):
        for event in update(log, item):
            assert decode(encode(event, "json")) == decode(encode(event, "msgpack")) == event


def test_an_end_tells_the_whole_life(log: EventLog) -> None:
    for step in range(11):
        update(log, result(step / 10, {3: (100 + step, 50, 200 + step, 350)}))
    (event,) = update(log, result(3.0, objects_ended=[3]))
    assert (event.first_seen, event.last_seen) == ("1970-01-01T00:00:00.000Z", "1970-01-01T00:00:01.000Z")
    assert (event.duration_s, event.best_score, event.cause) == (1.0, 0.75, "gone")
    assert event.path is not None
    assert event.path[0] == (0.0, 150.0, 350.0)
    assert event.path[-1] == (1.0, 160.0, 350.0)
    assert event.captured_at == "1970-01-01T00:00:03.000Z"


def test_a_name_has_a_life_of_its_own(log: EventLog) -> None:
    ada = Identity("Ada", 0.7)
    update(log, result(0.0, faces={4: FACE}))
    (new,) = update(log, result(1.0, faces={4: FACE}, identities=[ada]))
    assert (new.first_seen, new.duration_s) == ("1970-01-01T00:00:01.000Z", 0.0)
    update(log, result(2.0, faces={4: NEAR}, identities=[Identity("Ada", 0.9)]))
    (ended,) = update(log, result(3.0, faces={4: NEAR}))
    assert (ended.duration_s, ended.best_score, ended.cause) == (2.0, 0.9, "withdrawn")
    assert ended.path is not None and ended.path[0][0] == 0.0 and ended.path[-1] == (2.0, 160.0, 100.0)


def test_a_scene_has_a_life(log: EventLog) -> None:
    _, ended = (event for step in range(4) for event in update(log, result(step * 1.0, scene=0 if step < 3 else -1)))
    assert (ended.first_seen, ended.duration_s, ended.best_score) == ("1970-01-01T00:00:00.000Z", 3.0, 0.8)
    assert (ended.cause, ended.path, ended.track) == ("withdrawn", None, None)


def test_everything_ends_with_its_stream_and_only_there(log: EventLog) -> None:
    ada = Identity("Ada", 0.7)
    for stream in ("door", "yard"):
        update(log, result(0.0, {1: BOX}, {2: FACE}, identities=[ada], scene=0, stream=stream))
    ended = log.end("door", "down")
    assert [(event.event, event.kind, event.track, event.cause) for event in ended] == [
        ("ended", "object", 1, "down"),
        ("ended", "identity", 2, "down"),
        ("ended", "face", 2, "down"),
        ("ended", "scene", None, "down"),
    ]
    assert log.end("door", "stopped") == log.end("attic", "stopped") == []
    assert len(log.end("yard", "stopped")) == 4


def test_a_track_whose_end_a_crash_swallowed_ends_all_the_same(log: EventLog) -> None:
    update(log, result(0.0, {1: BOX}, {2: FACE}))
    rows = told(log, *(result(step / 10) for step in range(1, 100)))
    assert rows == [("ended", "object", 1, "person", None), ("ended", "face", 2, None, None)]


def test_who_stands_still_unseen_for_a_while_has_not_ended(log: EventLog) -> None:
    update(log, result(0.0, {1: BOX}))
    assert told(log, *(result(step / 10) for step in range(1, 50)), result(5.0, {1: BOX})) == []


def test_zones_and_lines_stand_between_new_and_ended() -> None:
    whole = ZoneSettings(name="whole", points=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)))
    middle = LineSettings(name="middle", points=((0.5, 0.0), (0.5, 1.0)))  # downwards: side a is on the right
    log = EventLog(OBJECTS, SCENES, {"door": ZoneCounter([whole], [middle], OBJECTS)})
    events = update(log, result(0.0, {1: (100, 50, 200, 350)}))
    events += update(log, result(0.1, {1: (500, 50, 600, 350)}))
    events += update(log, result(2.0, objects_ended=[1]))
    assert [(event.event, event.kind, event.name) for event in events] == [
        ("new", "object", None),
        ("enter", "zone", "whole"),
        ("cross", "line", "middle"),
        ("leave", "zone", "whole"),
        ("ended", "object", None),
    ]
    enter, cross, leave = events[1:4]
    assert enter.counts == {"present": {"person": 1}} and leave.counts == {"present": {}}
    assert (cross.direction, cross.counts) == ("b_to_a", {"a_to_b": {}, "b_to_a": {"person": 1}})
    assert (leave.cause, leave.duration_s, leave.box) == ("gone", 0.1, (500.0, 50.0, 600.0, 350.0))
    for event in events:
        assert decode(encode(event, "json")) == decode(encode(event, "msgpack")) == event


def test_crops_come_only_when_asked_for(log: EventLog) -> None:
    asked = EventLog(OBJECTS, SCENES, crops=True)
    (without,), (with_crop,) = (update(each, result(0.0, {1: BOX})) for each in (log, asked))
    assert without.best_crop is None
    assert with_crop.best_crop is not None
    assert with_crop.best_crop.box == BOX
    assert decode(encode(with_crop, "json")) == decode(encode(with_crop, "msgpack")) == with_crop
    pixels = cv2.imdecode(np.frombuffer(with_crop.best_crop.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None and pixels.shape == (192, 64, 3)


def test_who_enters_a_zone_is_shown(log: EventLog) -> None:
    whole = ZoneSettings(name="yard", points=((0, 0), (1, 0), (1, 1), (0, 1)))
    asked = EventLog(OBJECTS, SCENES, {"door": ZoneCounter([whole], [], OBJECTS)}, crops=True)
    seen, entered = update(asked, result(0.0, {1: BOX}))
    assert (entered.kind, entered.best_crop) == ("zone", seen.best_crop) and seen.best_crop is not None


def test_a_cut_ends_everything_before_what_is_seen_then_begins(log: EventLog) -> None:
    ada = [Identity("Ada", 0.7)]
    told(log, result(0.0, {1: BOX}, {1: FACE}, identities=ada, scene=0))
    after = result(0.1, {2: BOX}, {2: FACE}, scene=0, objects_ended=[1], faces_ended=[1])
    events = update(log, replace(after, cut=True))
    assert [(event.event, event.kind, event.track, event.cause) for event in events] == [
        ("ended", "object", 1, "cut"),
        ("ended", "identity", 1, "cut"),
        ("ended", "face", 1, "cut"),
        ("ended", "scene", None, "cut"),
        ("new", "scene", None, None),
        ("new", "object", 2, None),
        ("new", "face", 2, None),
    ]
