"""What is kept, and what goes first."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.store import EventQuery, EventStore, KeepRule, Retention, prune
from pipeline.store.retention import DAY_NS, GB
from tests.pipeline.store.test_events import event

NOW_NS = 1000 * DAY_NS
RULES = (
    KeepRule(days=90, stream="door", label="person"),
    KeepRule(days=3, stream="yard"),
    KeepRule(days=60, label="person"),
)


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    return EventStore(tmp_path / "events", create=True)


def kept_days(stream: str, label: str | None) -> float:
    """What the rules say, told once more."""
    if stream == "yard":
        return 3
    if label == "person":
        return 90 if stream == "door" else 60
    return 30


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["door", "yard", "hall"]), st.sampled_from(["person", "car", None]), st.integers(0, 100)
        ),
        max_size=40,
    )
)
def test_each_event_is_kept_as_long_as_the_rule_that_says_most(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, str | None, int]]
) -> None:
    with EventStore(tmp_path_factory.mktemp("store"), create=True) as store:
        made = [event(stream=stream, label=label, at_ns=NOW_NS - age * DAY_NS - 1) for stream, label, age in events]
        numbers = store.add(made)
        gone = prune(store, Retention(keep=RULES, min_free_gb=0), NOW_NS)
        left = {found.id for found in store.matching(EventQuery())}
    assert left == {
        number for number, (stream, label, age) in zip(numbers, events, strict=True) if age < kept_days(stream, label)
    }
    assert gone == len(events) - len(left)


def test_the_oldest_go_first_where_there_is_too_much(store: EventStore) -> None:
    store.add([event(at, snapshot=bytes(10_000)) for at in range(2000)])
    assert prune(store, Retention(keep_gb=0.01, min_free_gb=0), 0) > 0
    left = [found.at_ns for found in store.matching(EventQuery())]
    assert 0 < len(left) < 2000 and min(left) == (2000 - len(left)) * 10**9, "the newest are left"
    assert store.size() <= 0.01 * GB
    on_disk = sum(file.stat().st_size for file in store.folder.iterdir())
    assert on_disk < 0.02 * GB, "the disk has it back"


def test_the_oldest_go_before_the_disk_is_full(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.add([event(at, snapshot=bytes(10_000)) for at in range(1000)])
    whole = store.size()
    monkeypatch.setattr(EventStore, "free", lambda self: whole * 3 // 5 - self.size() + 2 * GB)  # others filled it
    prune(store, Retention(), 0)
    assert 0 < store.count() <= 500 and store.free() >= 2 * GB


def test_a_store_that_is_empty_leaves_a_full_disk_alone(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventStore, "free", lambda _: 0)
    assert prune(store, Retention()) == 0
