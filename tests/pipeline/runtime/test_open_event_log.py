"""What is left when a publisher dies: whatever it had announced and not ended."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frames.counters import FrameCounters
from pipeline.frames.events import EventName
from pipeline.frames.types import Tracks
from pipeline.runtime.event_publisher import EventPublisher
from pipeline.runtime.open_event_log import ROOM, OpenEventLog
from pipeline.sinks.zmq import Publisher
from pipeline.wire.messages import EventMessage
from tests.pipeline.made_frames import make_frame
from tests.pipeline.made_runs import make_config, write_model

AT = "2026-11-23T09:14:07.120Z"
AT_NS = 1_795_425_247_120_000_000
Box = tuple[float, float, float, float]


@pytest.fixture
def open_events() -> Iterator[OpenEventLog]:
    made = OpenEventLog.create(("door", "yard"))
    yield made
    made.close()


def event(what: EventName, track: int, stream: str = "door", **fields: object) -> EventMessage:
    values = {"kind": "object", "label": "person", "first_seen": AT, **fields}
    return EventMessage(stream=stream, seq=1, captured_at=AT, event=what, track=track, **values)  # type: ignore[arg-type]


def reach(
    open_events: OpenEventLog,
    seq: int,
    at_ns: int,
    objects: dict[int, Box] | None = None,
    faces: dict[int, Box] | None = None,
) -> None:
    seen = replace(make_frame("door", seq), captured_ns=at_ns)
    open_events.reached(seen.stream, seen.seq, seen.captured_ns, tracks_of(objects or {}), tracks_of(faces or {}))


def tracks_of(boxes: dict[int, Box]) -> Tracks:
    count = len(boxes)
    nothing = np.zeros(count, np.int64)
    corners = np.array(list(boxes.values()), np.float32).reshape(count, 4)
    return Tracks(
        np.array(list(boxes), np.int64), corners, np.ones(count, np.float32), nothing.astype(np.int32), nothing, nothing
    )


def tell(open_events: OpenEventLog, *events: EventMessage) -> None:
    open_events.announcing(events)
    open_events.announced(events)


def test_what_began_and_did_not_end_is_left(open_events: OpenEventLog) -> None:
    tell(open_events, event("new", 1), event("new", 2), event("new", 1, "yard"))
    tell(open_events, event("changed", 2, label="dog"), event("ended", 1))
    reach(open_events, 77, AT_NS + 2_500_000_000)
    left = {(one.stream, one.track): one for one in open_events.left("crash")}
    assert left.keys() == {("door", 2), ("yard", 1)}
    one = left["door", 2]
    assert (one.event, one.label, one.cause, one.seq) == ("ended", "dog", "crash", 77)
    assert (one.first_seen, one.last_seen, one.duration_s) == (AT, "2026-11-23T09:14:09.620Z", 2.5)


def test_what_is_being_ended_is_left_until_it_was_told(open_events: OpenEventLog) -> None:
    tell(open_events, event("new", 1))
    open_events.announcing([event("ended", 1)])
    assert [one.track for one in open_events.left("crash")] == [1]
    open_events.announced([event("ended", 1)])
    assert open_events.left("crash") == []


def test_zones_are_left_before_the_object_ends(open_events: OpenEventLog) -> None:
    tell(open_events, event("new", 1), event("enter", 1, kind="zone", name="yard"), event("dwell", 1, kind="zone"))
    assert [(one.event, one.kind, one.name) for one in open_events.left("crash")] == [
        ("leave", "zone", "yard"),
        ("ended", "object", None),
    ]
    tell(open_events, event("leave", 1, kind="zone", name="yard"))
    assert [one.kind for one in open_events.left("crash")] == ["object"]


def test_who_comes_after_reads_it_and_clears_it(open_events: OpenEventLog) -> None:
    tell(open_events, event("new", 1))
    assert len(open_events.left("crash")) == 1
    open_events.clear()
    assert open_events.left("crash") == []


def test_a_write_that_was_cut_off_leaves_the_one_before(open_events: OpenEventLog) -> None:
    tell(open_events, event("new", 1))
    version = int(open_events._words("door")[0])
    tell(open_events, event("new", 2))
    open_events._words("door")[0] = version  # killed before the new room counts
    assert [one.track for one in open_events.left("crash")] == [1]


def test_what_does_not_fit_is_not_left_but_the_rest_is(open_events: OpenEventLog) -> None:
    tell(open_events, *(event("new", track, label="x" * 200) for track in range(1, 1000)))
    left = open_events.left("crash")
    assert ROOM / 400 < len(left) < 999
    assert {one.track for one in left} == set(range(1, len(left) + 1))


def test_a_track_that_a_crash_ends_has_its_way_to_the_second(open_events: OpenEventLog) -> None:
    start = (0.0, 0.0, 10.0, 20.0)
    tell(open_events, event("new", 1, box=start), event("new", 1, kind="face", label=None, box=(2.0, 2.0, 6.0, 6.0)))
    for seq in range(36):  # 10 frames a second
        x = float(seq)
        objects, faces = {1: (x, 0.0, x + 10, 20.0), 7: start}, {1: (x, 2.0, x + 4, 6.0)}
        reach(open_events, seq, AT_NS + seq * 10**8, objects, faces)
    (face, thing) = open_events.left("crash")
    assert (thing.kind, thing.box) == ("object", (30.0, 0.0, 40.0, 20.0))
    assert thing.path == ((0.0, 5.0, 20.0), (1.0, 15.0, 20.0), (2.0, 25.0, 20.0), (3.0, 35.0, 20.0))
    assert face.path == ((0.0, 4.0, 4.0), (1.0, 12.0, 4.0), (2.0, 22.0, 4.0), (3.0, 32.0, 4.0))


def test_a_long_way_is_thinned_to_as_many_points_as_others_have(open_events: OpenEventLog) -> None:
    tell(open_events, event("new", 1, box=(0.0, 0.0, 2.0, 1.0)))
    for second in range(1, 5000):  # the rows have gone round twice
        reach(open_events, second, AT_NS + second * 10**9, {1: (0.0, 0.0, 2.0, float(second))})
    (thing,) = open_events.left("crash")
    assert thing.path is not None and len(thing.path) == 32
    assert thing.path[0] == (0.0, 1.0, 1.0)
    assert thing.path[-1] == (4999.0, 1.0, 4999.0)
    assert list(thing.path) == sorted(thing.path)


def test_a_track_that_ends_before_a_second_has_passed_was_where_it_began(open_events: OpenEventLog) -> None:
    tell(open_events, event("new", 1, box=(0.0, 0.0, 2.0, 1.0)))
    (thing,) = open_events.left("crash")
    assert (thing.box, thing.path) == ((0.0, 0.0, 2.0, 1.0), ((0.0, 1.0, 1.0),))


def crossed(name: str, count: int, stream: str = "door") -> EventMessage:
    counts = {"a_to_b": {"person": count}, "b_to_a": {}}
    return event("cross", 1, stream, kind="line", name=name, direction="a_to_b", counts=counts)


def test_lines_go_on_where_the_dead_one_stopped(open_events: OpenEventLog) -> None:
    tell(open_events, crossed("gate", 1), crossed("gate", 2), crossed("lane", 7), crossed("gate", 5, "yard"))
    assert open_events.line_counts("door") == {
        "gate": {"a_to_b": {"person": 2}, "b_to_a": {}},
        "lane": {"a_to_b": {"person": 7}, "b_to_a": {}},
    }
    assert open_events.line_counts("yard") == {"gate": {"a_to_b": {"person": 5}, "b_to_a": {}}}


def test_a_second_successor_knows_what_was_counted_before_the_first(open_events: OpenEventLog) -> None:
    tell(open_events, crossed("gate", 4), event("new", 1))
    successor = OpenEventLog(("door", "yard"), open_events._file)
    successor.clear()
    tell(successor, crossed("lane", 1), event("new", 2))
    assert {name: counts["a_to_b"] for name, counts in open_events.line_counts("door").items()} == {
        "gate": {"person": 4},
        "lane": {"person": 1},
    }
    assert [one.track for one in open_events.left("crash")] == [2]


def test_many_open_things_do_not_push_out_the_counts(open_events: OpenEventLog) -> None:
    tell(open_events, *(event("new", track, label="x" * 200) for track in range(1, 1000)), crossed("gate", 3))
    assert open_events.line_counts("door")["gate"]["a_to_b"] == {"person": 3}
    assert 0 < len(open_events.left("crash")) < 999


def test_who_leaves_a_zone_after_a_crash_is_taken_off_its_count(open_events: OpenEventLog) -> None:
    tell(open_events, *(event("enter", track, kind="zone", name="yard") for track in (1, 2)))
    tell(open_events, event("enter", 3, kind="zone", name="yard", label="dog"))
    assert [(one.track, one.counts) for one in open_events.left("crash")] == [
        (3, {"present": {"person": 2}}),
        (2, {"present": {"person": 1}}),
        (1, {"present": {}}),
    ]


def test_a_finisher_goes_on_counting(open_events: OpenEventLog, tmp_path: Path) -> None:
    model, line = write_model(tmp_path / "model"), {"name": "gate", "points": [[0, 0.5], [1, 0.5]]}
    config = make_config(model, {"door": {"source": "0", "lines": [line]}})
    tell(open_events, crossed("gate", 3))
    with Publisher(config.publish) as publisher:
        event_publisher = EventPublisher(publisher, FrameCounters(), model.spec, config, open_events)
    assert event_publisher.counts("door") == {"gate": {"a_to_b": {"person": 3}, "b_to_a": {}}}


def test_that_a_stream_is_over_is_remembered(open_events: OpenEventLog) -> None:
    open_events.over("door")
    open_events.clear()
    assert [open_events.is_over(name) for name in ("door", "yard")] == [True, False]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["new", "ended"]), st.integers(1, 6)), max_size=40))
def test_it_is_what_a_list_of_open_things_would_be(steps: list[tuple[EventName, int]]) -> None:
    open_events = OpenEventLog.create(("door", "yard"))
    open_now: set[int] = set()
    for name, track in steps:
        tell(open_events, event(name, track))
        (open_now.add if name == "new" else open_now.discard)(track)
    assert {one.track for one in open_events.left("crash")} == open_now
    open_events.close()
