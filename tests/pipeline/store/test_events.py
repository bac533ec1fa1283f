"""The event store: what goes in comes out, newest first, and what is deleted is gone."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import StoreError
from pipeline.store import EventQuery, EventStore, NewEvent
from pipeline.store.events import CLIPS, FILE, FORMAT_1, STORE
from pipeline.store.query import Cursor

SECOND = 10**9


def event(at_s: float = 0.0, **fields: object) -> NewEvent:
    given = {
        **{"at_ns": round(at_s * SECOND), "stream": "door", "event": "new", "kind": "object", "track": 1},
        **{"label": "person", "person": None, "place": None, "score": 0.9, "snapshot": None},
        **fields,
    }
    body = json.dumps({key: value for key, value in given.items() if key not in ("snapshot", "body")}).encode()
    return NewEvent(**{"body": body, **given})  # type: ignore[arg-type]  # by name


@pytest.fixture
def store(tmp_path: Path) -> EventStore:
    return EventStore(tmp_path / "events", create=True)


def test_an_event_comes_out_as_it_went_in(store: EventStore) -> None:
    (number,) = store.add([event(3, person="Ada", place="gate", snapshot=b"jpeg", score=0.5)])
    found = store.get(number)
    assert (found.stream, found.at_ns, found.person, found.place, found.score) == (
        "door",
        3 * SECOND,
        "Ada",
        "gate",
        0.5,
    )
    assert msgspec.json.decode(found.body)["label"] == "person"
    assert found.has_snapshot and store.snapshot(number) == b"jpeg"


def test_all_of_some_events_are_stored_or_none(store: EventStore) -> None:
    broken = NewEvent(**{**{name: getattr(event(), name) for name in event().__struct_fields__}, "stream": None})  # type: ignore[arg-type]
    with pytest.raises(StoreError, match="NOT NULL"):
        store.add([event(), broken])
    assert store.count() == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (EventQuery(), {0, 1, 2, 3, 4}),
        (EventQuery(streams=("yard",)), {1, 4}),
        (EventQuery(streams=("yard", "door")), {0, 1, 2, 3, 4}),
        (EventQuery(label="car"), {1}),
        (EventQuery(person="Ada"), {2}),
        (EventQuery(place="gate", events=("enter",)), {3}),
        (EventQuery(kinds=("zone", "face")), {2, 3}),
        (EventQuery(min_score=0.8), {0, 2, 3}),
        (EventQuery(since_ns=1 * SECOND, until_ns=3 * SECOND), {1, 2}),
        (EventQuery(streams=("yard",), label="car", min_score=0.9), set()),
        (EventQuery(track=7), {4}),
    ],
)
def test_each_filter(store: EventStore, query: EventQuery, expected: set[int]) -> None:
    store.add(
        [
            event(0),
            event(1, stream="yard", label="car", score=0.4),
            event(2, kind="face", person="Ada", label=None),
            event(3, kind="zone", event="enter", place="gate"),
            event(4, stream="yard", track=7, score=None),
        ]
    )
    assert {found.at_ns // SECOND for found in store.page(query).events} == expected
    assert store.count(query) == len(expected)


@given(times=st.lists(st.integers(0, 5), max_size=30), limit=st.integers(1, 7))
def test_pages_together_are_everything_once_newest_first(
    tmp_path_factory: pytest.TempPathFactory, times: list[int], limit: int
) -> None:
    with EventStore(tmp_path_factory.mktemp("store"), create=True) as store:
        numbers = store.add([event(at) for at in times])
        seen, cursor = [], None
        while True:
            page = store.page(limit=limit, cursor=cursor)
            assert len(page.events) <= limit
            seen += page.events
            if (cursor := page.next) is None:
                break
    assert [found.id for found in seen] == [
        number for _, number in sorted(zip(times, numbers, strict=True), reverse=True)
    ]


def test_events_that_come_meanwhile_do_not_move_the_pages(store: EventStore) -> None:
    store.add([event(at) for at in range(4)])
    first = store.page(limit=2)
    store.add([event(9)])
    second = store.page(limit=2, cursor=first.next)
    assert [found.at_ns // SECOND for found in first.events + second.events] == [3, 2, 1, 0]


@pytest.mark.parametrize("text", ["", "1", "x-1", "1-1; DROP TABLE events", "9" * 40 + "-1", "١-١"])
def test_a_cursor_that_no_page_gave_is_refused(store: EventStore, text: str) -> None:
    with pytest.raises(StoreError, match="cursor must be one that a page of events gave"):
        store.page(cursor=text)


@given(st.integers(0, 2**62), st.integers(0, 10**17))
def test_a_cursor_is_its_text(at_ns: int, number: int) -> None:
    assert Cursor.parse(str(Cursor(at_ns, number))) == Cursor(at_ns, number)


def test_a_number_is_not_given_twice(store: EventStore) -> None:
    store.add([event(5), event(1)])
    (last,) = store.add([event(2)])
    store.delete([last])
    assert store.add([event(3)]) > [last]


def test_deleting_takes_the_clips_that_nobody_else_has(store: EventStore) -> None:
    first, second = store.add([event(0), event(1)])
    (store.folder / CLIPS).mkdir()
    (store.folder / CLIPS / "a.mp4").write_bytes(b"video")
    for number in (first, second):
        store.attach_clip(number, "a.mp4")
    assert store.delete([first]) == 1 and (store.folder / CLIPS / "a.mp4").exists()
    clip = store.clip_file(store.get(second))
    assert clip is not None and clip.read_bytes() == b"video"
    assert store.delete_matching(EventQuery(label="person")) == 1
    assert not (store.folder / CLIPS / "a.mp4").exists()
    with pytest.raises(StoreError, match=f"event {first}: is not in the store"):
        store.get(first)
    with pytest.raises(StoreError, match="is not in the store"):
        store.attach_clip(first, "a.mp4")


def test_a_snapshot_that_was_deleted_is_in_no_file_any_more(store: EventStore) -> None:
    picture = b"a face " * 300
    store.add([event(0, snapshot=picture), event(1)])
    store.delete([1])
    store.give_back()
    assert picture[:100] not in b"".join(file.read_bytes() for file in store.folder.glob(f"{FILE}*"))


def test_a_person_is_forgotten_and_what_happened_is_not(store: EventStore) -> None:
    face = {"track": 1, "identity": {"name": "Ada", "score": 0.8}}
    bodies = [
        {"kind": "identity", "event": "changed", "label": "Ada", "previous": "Grace"},
        {"kind": "identity", "event": "changed", "label": "Grace", "previous": "Ada"},
        {"kind": "face", "event": "ended", "best_face": face},
        {"kind": "zone", "event": "enter", "name": "Ada", "label": "person"},
    ]
    people = ["Ada", "Grace", "Ada", None]
    store.add(
        [
            event(
                at,
                kind=body["kind"],
                label=body.get("label"),
                person=person,
                body=json.dumps(body).encode(),
                snapshot=b"x",
            )
            for at, (body, person) in enumerate(zip(bodies, people, strict=True))
        ]
    )
    assert store.forget_person("Ada") == 3
    left = [store.get(number) for number in range(1, 5)]
    assert [found.person for found in left] == [None, "Grace", None, None]
    assert [found.label for found in left] == [None, "Grace", None, "person"]
    assert [found.has_snapshot for found in left] == [False, True, False, True]
    assert (
        msgspec.json.decode(left[1].body)["previous"] is None
        and msgspec.json.decode(left[0].body)["previous"] == "Grace"
    )
    assert msgspec.json.decode(left[2].body)["best_face"]["identity"] is None
    assert msgspec.json.decode(left[3].body)["name"] == "Ada", "a zone may bear any name"
    assert store.page(EventQuery(person="Ada")).events == ()


def test_who_is_forgotten_is_in_no_picture_of_the_same_face_and_body(store: EventStore) -> None:
    def seen(
        at_s: int, kind: str, track: int, first_s: int, person: str | None = None, of: int | None = None
    ) -> NewEvent:
        first = datetime.fromtimestamp(first_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        body = json.dumps({"kind": kind, "first_seen": first, "best_face": {"object": of}}).encode()
        return event(at_s, kind=kind, track=track, person=person, body=body, snapshot=b"x")

    told = {
        "another with the number, before": seen(5, "object", 7, 2),
        "her body": seen(10, "object", 7, 10),
        "her face, before it is known": seen(11, "face", 3, 11, of=7),
        "another body with the number of her face": seen(11, "object", 3, 11),
        "her name": seen(12, "identity", 3, 12, "Ada", of=7),
        "her body in a zone": seen(13, "zone", 7, 13),
        "her body, gone": seen(20, "object", 7, 10),
        "another with the number, after": seen(30, "object", 7, 30),
        "another's face with the number": seen(31, "face", 3, 31, "Bob", of=7),
    }
    names = dict(zip(store.add(told.values()), told, strict=True))
    shown = [names[number] for number in store.showing("Ada")]
    assert shown == [name for name in reversed(told) if name.startswith("her ")]
    store.forget_person("Ada")
    assert [names[number] for number in names if not store.get(number).has_snapshot] == shown[::-1]


def test_a_name_that_is_forgotten_is_not_left_in_a_page_of_an_index(store: EventStore) -> None:
    chance = random.Random(1)

    def named(name: str) -> NewEvent:
        body = json.dumps({"kind": "identity", "label": name}).encode()
        return event(chance.random(), kind="identity", label=name, person=name, body=body)

    for _ in range(60):  # into the middle of indexes, so that full pages of them are divided
        store.add(named(chance.choice(("Ada Lovelace", "Grace", "Bob"))) for _ in range(20))
    store.forget_person("Ada Lovelace")
    left = (store.folder / FILE).read_bytes().count(b"Ada Lovelace")
    assert left, "SQLite leaves it, or this test shows nothing"
    store.scrub("Ada Lovelace")
    assert b"Ada Lovelace" not in (store.folder / FILE).read_bytes()
    assert store.count(EventQuery(person="Grace")) and not store.count(EventQuery(person="Ada Lovelace"))


def test_a_name_that_is_not_ascii_is_forgotten_where_an_event_tells_it_as_the_one_before(store: EventStore) -> None:
    body = msgspec.json.encode({"kind": "identity", "label": "Ada", "previous": "José"})  # as messages are written
    (number,) = store.add([event(kind="identity", label="Ada", person="Ada", body=body)])
    assert store.forget_person("José") == 1
    assert msgspec.json.decode(store.get(number).body)["previous"] is None


def test_who_is_renamed_is_found_and_forgotten_by_the_new_name(store: EventStore) -> None:
    face = {"identity": {"name": "Ada", "score": 0.7}}
    bodies = [{"kind": "identity", "label": "Ada", "previous": None}, {"kind": "face", "best_face": face}]
    given = [json.dumps(body).encode() for body in bodies]
    ids = store.add(
        [
            event(1, kind="identity", label="Ada", person="Ada", body=given[0], snapshot=b"jpeg"),
            event(2, kind="face", label=None, person="Ada", body=given[1]),
        ]
    )
    assert store.rename_person("Ada", "Grace") == 2
    first, second = (msgspec.json.decode(store.get(number).body) for number in ids)
    assert (first["label"], second["best_face"]["identity"]) == ("Grace", {"name": "Grace", "score": 0.7})
    assert store.get(ids[0]).has_snapshot
    assert store.forget_person("Ada") == 0
    assert store.forget_person("Grace") == 2


def test_forgetting_asks_for_the_events_of_a_person_and_for_none_of_them_again(store: EventStore) -> None:
    """Thousands may show one person; each statement is one more that others wait for."""
    ids = store.add([event(number, person="Ada", track=number) for number in range(1, 21)])
    for number in ids:
        store.attach_clip(number, f"{number}.mp4")
    asked: list[str] = []
    with store.file.transaction() as db:
        db.set_trace_callback(asked.append)
    store.forget_person("Ada", clips=True)
    with store.file.transaction() as db:
        db.set_trace_callback(None)
    assert [store.get(number).clip for number in ids] == [None] * 20
    assert sum(statement.lstrip().startswith("SELECT") for statement in asked) <= 2 + len(ids), "one for each track"


def test_clips_of_who_is_forgotten_go_when_they_are_to_and_others_stay(store: EventStore) -> None:
    clips = store.folder / CLIPS
    clips.mkdir()
    ids = store.add([event(1, person="Ada"), event(2), event(3)])
    for name, number in (("ada.mp4", ids[0]), ("ada.mp4", ids[1]), ("other.mp4", ids[2])):
        (clips / name).write_bytes(b"video")
        store.attach_clip(number, name)
    store.forget_person("Ada", clips=True)
    assert [store.get(number).clip for number in ids] == [None, None, "other.mp4"]
    assert [file.name for file in clips.iterdir()] == ["other.mp4"]


WRITER = textwrap.dedent("""
    import sys
    from tests.pipeline.store.test_events import event
    from pipeline.store import EventStore
    store = EventStore(sys.argv[1])
    for number in range(10**6):
        store.add([event(number, snapshot=bytes(2000))])
        print(number, flush=True)
""")


@pytest.mark.parametrize("lines", [3, 40, 117])
def test_what_was_told_stored_outlives_kill_9(store: EventStore, lines: int) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(store.folder)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        told += [int(line) for line in writer.stdout if line.endswith(b"\n")]
    stored = {found.at_ns // SECOND for found in store.matching(EventQuery())}
    assert set(told) <= stored and len(stored) <= len(told) + 1
    assert store.file.rows("PRAGMA integrity_check") == [("ok",)]


def test_a_store_of_a_later_version_is_refused(tmp_path: Path) -> None:
    with EventStore(tmp_path, create=True) as store:
        store.file.rows("PRAGMA user_version = 7")
    with pytest.raises(StoreError, match=r"event store .* has format 7, this version reads formats 1 to 3"):
        EventStore(tmp_path)


def test_what_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"event store \S+: there is no such file"):
        EventStore(tmp_path)
    (tmp_path / FILE).write_bytes(b"notes\n" * 1000)
    with pytest.raises(StoreError, match="is not an event store"):
        EventStore(tmp_path, create=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be made"):
        EventStore(tmp_path / "file/store", create=True)


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events", create=True) as store:
        store.add([event()])
        assert (tmp_path / "events").stat().st_mode & 0o077 == 0
        assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "events").iterdir())


def test_clips_that_no_event_has_are_deleted_unless_they_were_just_begun(tmp_path: Path) -> None:
    with EventStore(tmp_path / "events", create=True) as store:
        clips = store.folder / CLIPS
        clips.mkdir()
        (number,) = store.add([event()])
        old = time.time() - 3600
        for name in ("kept.mp4", "orphan.mp4", "young.mp4"):
            (clips / name).write_bytes(b"clip")
            if name != "young.mp4":
                os.utime(clips / name, (old, old))
        store.attach_clip(number, "kept.mp4")
        assert store.delete_orphans() == 1
        assert sorted(path.name for path in clips.iterdir()) == ["kept.mp4", "young.mp4"]
        assert store.delete_orphans(younger_s=-1.0) == 1
        assert [path.name for path in clips.iterdir()] == ["kept.mp4"]


def test_a_store_of_the_first_format_is_taken_over_with_its_events_and_clips(tmp_path: Path) -> None:
    folder = tmp_path / "events"
    folder.mkdir()
    with sqlite3.connect(folder / "events.sqlite") as db:
        db.executescript(FORMAT_1)
        db.execute(f"PRAGMA application_id = {STORE.application_id}")
        db.execute("PRAGMA user_version = 1")
        values = "(5, 'door', 'new', 'scene', '{}', 'a.mp4')"
        db.execute(f"INSERT INTO events (at_ns, stream, event, kind, body, clip) VALUES {values}")
    db.close()
    with EventStore(folder) as store:
        assert [(event.stream, event.clip) for event in store.page().events] == [("door", "a.mp4")]
        plan = store.file.rows("EXPLAIN QUERY PLAN SELECT 1 FROM events WHERE clip = ?", "a.mp4")
        assert "by_clip" in str(plan)
