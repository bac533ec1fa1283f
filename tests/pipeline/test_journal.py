"""What is left when a publisher dies: whatever it had announced and not ended."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.journal import ROOM, Journal
from pipeline.messages import EventMessage, EventName

AT = "2026-11-23T09:14:07.120Z"
AT_NS = 1_795_425_247_120_000_000


@pytest.fixture
def journal() -> Iterator[Journal]:
    made = Journal.create(("door", "yard"))
    yield made
    made.close()


def event(what: EventName, track: int, stream: str = "door", **fields: object) -> EventMessage:
    values = {"kind": "object", "label": "person", "first_seen": AT, **fields}
    return EventMessage(stream=stream, seq=1, captured_at=AT, event=what, track=track, **values)  # type: ignore[arg-type]


def tell(journal: Journal, *events: EventMessage) -> None:
    journal.announcing(events)
    journal.announced(events)


def test_what_began_and_did_not_end_is_left(journal: Journal) -> None:
    tell(journal, event("new", 1), event("new", 2), event("new", 1, "yard"))
    tell(journal, event("changed", 2, label="dog"), event("ended", 1))
    journal.reached("door", 77, AT_NS + 2_500_000_000)
    left = {(one.stream, one.track): one for one in journal.left("crash")}
    assert left.keys() == {("door", 2), ("yard", 1)}
    one = left["door", 2]
    assert (one.event, one.label, one.cause, one.seq) == ("ended", "dog", "crash", 77)
    assert (one.first_seen, one.last_seen, one.duration_s) == (AT, "2026-11-23T09:14:09.620Z", 2.5)


def test_what_is_being_ended_is_left_until_it_was_told(journal: Journal) -> None:
    tell(journal, event("new", 1))
    journal.announcing([event("ended", 1)])
    assert [one.track for one in journal.left("crash")] == [1]
    journal.announced([event("ended", 1)])
    assert journal.left("crash") == []


def test_zones_are_left_before_the_object_ends(journal: Journal) -> None:
    tell(journal, event("new", 1), event("enter", 1, kind="zone", name="yard"), event("dwell", 1, kind="zone"))
    assert [(one.event, one.kind, one.name) for one in journal.left("crash")] == [
        ("leave", "zone", "yard"),
        ("ended", "object", None),
    ]
    tell(journal, event("leave", 1, kind="zone", name="yard"))
    assert [one.kind for one in journal.left("crash")] == ["object"]


def test_who_comes_after_reads_it_and_clears_it(journal: Journal) -> None:
    tell(journal, event("new", 1))
    assert len(journal.left("crash")) == 1
    journal.clear()
    assert journal.left("crash") == []


def test_a_write_that_was_cut_off_leaves_the_one_before(journal: Journal) -> None:
    tell(journal, event("new", 1))
    version = int(journal._words["door"][0])
    tell(journal, event("new", 2))
    journal._words["door"][0] = version  # killed before the new room counts
    assert [one.track for one in journal.left("crash")] == [1]


def test_what_does_not_fit_is_not_left_but_the_rest_is(journal: Journal) -> None:
    tell(journal, *(event("new", track, label="x" * 200) for track in range(1, 1000)))
    left = journal.left("crash")
    assert ROOM / 400 < len(left) < 999
    assert {one.track for one in left} == set(range(1, len(left) + 1))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.sampled_from(["new", "ended"]), st.integers(1, 6)), max_size=40))
def test_it_is_what_a_list_of_open_things_would_be(steps: list[tuple[EventName, int]]) -> None:
    journal = Journal.create(("door", "yard"))
    open_now: set[int] = set()
    for name, track in steps:
        tell(journal, event(name, track))
        (open_now.add if name == "new" else open_now.discard)(track)
    assert {one.track for one in journal.left("crash")} == open_now
    journal.close()
