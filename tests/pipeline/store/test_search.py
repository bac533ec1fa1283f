"""A page of events costs about the same whatever is asked for, and pages together are all that fits, once."""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import pytest

from pipeline.store import EventQuery, EventStore, NewEvent, search
from tests.pipeline.store.test_events import SECOND, event

EVENTS = 3_000
FEW, LOOK = 80, 160  # of those many, so that the way of a million is gone
STEPS = 100 * LOOK  # of SQLite's machine, that a page may take: a look through all rows takes more
# Of each filter what many events have, what some have, and what none has.
FILTERS: dict[str, tuple[object, ...]] = {
    "streams": (("door",), ("yard", "hall"), ("cellar",)),
    "events": (("new",), ("new", "ended"), ("cross",)),
    "kinds": (("object",), ("face", "zone"), ("line",)),
    "label": ("person", "bird", "unicorn"),
    "person": ("Ada", "Nobody"),
    "place": ("steps", "nowhere"),
    "track": (7, 10**9),
    "min_score": (0.3, 0.94, 2.0),
    "since_ns": (100 * SECOND, (EVENTS - 30) * SECOND, 10**18),
    "until_ns": (EVENTS * SECOND, 20 * SECOND, -1),
}


def made(number: int, chance: random.Random) -> NewEvent:
    """An event of a day: people at the door first, later a yard where nobody comes by."""
    early = number < EVENTS // 2
    kind = chance.choices(("object", "face", "zone"), (6, 3, 2))[0]
    return event(
        number,
        stream=chance.choice(("door", "hall")) if early else chance.choice(("yard", "hall")),
        event=chance.choice(("new", "ended", "enter")),
        kind=kind,
        label=None if kind == "face" else chance.choices(("person", "car", "bird"), (20, 20, 1))[0],
        person="Ada" if kind == "face" and chance.random() < 0.3 else None,
        place="steps" if kind == "zone" else None,
        track=number // 5,
        score=None if chance.random() < 0.1 else round(chance.uniform(0.3, 0.95), 3),
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EventStore]:
    chance = random.Random(5)
    with EventStore(tmp_path_factory.mktemp("store"), create=True) as opened:
        opened.add([made(number, chance) for number in range(EVENTS)])
        yield opened


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "FEW", FEW)
    monkeypatch.setattr(search, "LOOK", LOOK)


def queries() -> list[EventQuery]:
    """Nothing asked for, each filter alone, and each with each other one."""
    alone = [{name: value} for name, values in FILTERS.items() for value in values]
    pairs = [one | other for one, other in combinations(alone, 2) if not one.keys() & other.keys()]
    return [EventQuery(**given) for given in ({}, *alone, *pairs)]  # type: ignore[arg-type]  # by name


def test_each_filter_and_each_pair_of_them_finds_what_fits_newest_first(store: EventStore) -> None:
    for query in queries():
        where, values = query.where()
        rows = store.file.rows(f"SELECT id FROM events NOT INDEXED WHERE {where} ORDER BY at_ns DESC", *values)
        assert [each.id for each in store.matching(query)] == [number for (number,) in rows], query
        assert store.count(query) == len(rows), query


def test_what_is_counted_is_all_that_fits_and_rows_are_not_looked_at(store: EventStore) -> None:
    step_ns = 900 * SECOND
    for query in queries():
        where, values = query.where()
        rows = store.file.rows(
            f"SELECT at_ns, label FROM events NOT INDEXED WHERE {where} ORDER BY at_ns, label", *values
        )
        expected = Counter((at_ns // step_ns * step_ns, label) for at_ns, label in rows)
        found = {(each.at_ns, each.label): each.count for each in store.counts(query, step_ns)}
        assert found == expected, query
        index = query.for_counts()
        ((*_, plan),) = store.file.rows(
            f"EXPLAIN QUERY PLAN SELECT at_ns, label FROM events INDEXED BY {index} WHERE {where}", *values
        )
        assert "COVERING INDEX" in plan or query.track is not None, f"{query}: {plan}"


def test_pages_that_looked_far_say_where_the_next_one_goes_on(store: EventStore) -> None:
    rare = EventQuery(streams=("door",), min_score=0.6, label="person", kinds=("object", "face"))  # long ago
    seen, cursor, pages = [], None, 0
    while True:
        page = store.page(rare, 5, cursor)
        pages += 1
        assert len(page.events) <= 5
        seen += [each.at_ns for each in page.events]
        if (cursor := page.next) is None:
            break
    assert seen == [each.at_ns for each in store.matching(rare)] and len(seen) > 50
    assert pages > len(seen) / 5


def test_no_page_looks_through_all_events(store: EventStore) -> None:
    """In steps of SQLite's own machine, since a clock would tell how busy this one is."""
    counted = [0]

    def count() -> int:
        counted[0] += 1
        return 0

    slow = {}
    for query in queries():
        counted[0] = 0
        store.file._db.set_progress_handler(count, 100)
        page = store.page(query)
        first, counted[0] = counted[0], 0
        if page.next is not None:
            store.page(query, cursor=page.next)
        steps = 100 * max(first, counted[0])
        if steps > STEPS:
            slow[query] = steps
    store.file._db.set_progress_handler(None, 0)
    assert slow == {}
    counted[0] = 0
    store.file._db.set_progress_handler(count, 100)
    store.file.rows("SELECT sum(score > 2) FROM events")
    store.file._db.set_progress_handler(None, 0)
    assert 100 * counted[0] > STEPS, "a look through all of them would be seen"
