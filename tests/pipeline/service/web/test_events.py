"""Events, pictures and clips over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

from engines.errors import RequestError
from pipeline.service.web.events import byte_range
from pipeline.store import EventStore, boxes_of
from tests.pipeline.service.web.made_site import bearer, client_of, event, made_site, stored


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(made_site(tmp_path)) as client:
        yield client


def test_events_come_page_by_page_the_latest_first(client: TestClient, tmp_path: Path) -> None:
    ids = stored(tmp_path, *(event(float(row), stream="door" if row % 2 else "yard") for row in range(5)))
    first = client.get("/api/events?limit=2").json()
    second = client.get("/api/events", params={"limit": 3, "cursor": first["next"]}).json()
    assert [each["id"] for each in first["events"] + second["events"]] == ids[::-1] and second["next"] is None
    assert first["events"][0] | {"body": None} == {
        **{"id": ids[4], "at": "1970-01-01T00:00:04.000Z", "stream": "yard", "event": "new", "kind": "object"},
        **{"track": 1, "label": "person", "person": None, "place": None, "score": 0.9},
        **{"has_snapshot": False, "clip": False, "body": None},
    }


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("stream=yard", [2]),
        ("stream=yard&stream=door", [3, 2, 1]),
        ("kind=face&kind=zone", [3]),
        ("person=Ada", [3]),
        ("min_score=0.8", [2, 1]),
        ("since=1970-01-01T00:00:02Z", [3, 2]),
        ("until=1970-01-01T01:00:02%2B01:00", [1]),
        ("since=1970-01-01T00:00:02", [3, 2]),
    ],
)
def test_events_are_chosen(query: str, found: list[int], client: TestClient, tmp_path: Path) -> None:
    more = event(3.0, kind="face", person="Ada", score=0.5)
    stored(tmp_path, event(1.0), event(2.0, stream="yard"), more)
    assert [each["id"] for each in client.get(f"/api/events?{query}").json()["events"]] == found


DAY = "since=1970-01-01T00:00:00Z&until=1970-01-02T00:00:00Z"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [("00:00", "car", 1), ("00:00", "person", 2), ("00:15", None, 1), ("01:00", "person", 1)]),
        ("&stream=yard", [("00:00", "car", 1)]),
        ("&kind=object&event=new", [("00:00", "car", 1), ("00:00", "person", 2)]),
        ("&label=person&step_s=3600", [("00:00", "person", 2), ("01:00", "person", 1)]),
        ("&person=Ada", [("00:15", None, 1)]),
        ("&min_score=0.95", []),
    ],
)
def test_events_are_counted_by_time_and_label(
    query: str, found: list[tuple[str, str | None, int]], client: TestClient, tmp_path: Path
) -> None:
    others = event(1.0, stream="yard", label="car"), event(900.0, kind="face", label=None, person="Ada")
    late = event(3600.0, event="ended"), event(86_400.0)
    stored(tmp_path, event(0.0), event(899.999), *others, *late)
    counts = client.get(f"/api/events/counts?{DAY}{query}").json()["counts"]
    assert [(each["at"][11:16], each["label"], each["count"]) for each in counts] == found


def test_a_viewers_counts_are_those_of_their_streams(tmp_path: Path) -> None:
    stored(tmp_path, event(1.0), event(2.0, stream="yard"), event(3.0, stream="yard"))
    site = made_site(tmp_path, login=True)
    with client_of(site) as client:
        answers = [
            client.get(f"https://127.0.0.1:8080/api/events/counts?{DAY}", headers=bearer(site, "viewer", *streams))
            for streams in ((), ("yard",))
        ]
    assert [[each["count"] for each in answer.json()["counts"]] for answer in answers] == [[], [2]]


@pytest.mark.parametrize(
    ("path", "status", "sentence"),
    [
        ("/api/events?since=yesterday", 400, "since must be a moment"),
        ("/api/events?limit=9999", 400, "limit"),
        ("/api/events?cursor=a", 404, "cursor must be one that a page of events gave"),
        ("/api/events/counts", 400, "since and until must both be given"),
        (f"/api/events/counts?{DAY}&step_s=60", 400, "until must be 1000 steps of step_s = 60 after since"),
        (f"/api/events/counts?{DAY}&step_s=0", 400, "step_s"),
        ("/api/events/counts?since=0001-01-01&until=9999-12-31", 400, "until must be 1000 steps"),
        ("/api/events/99", 404, "event 99: is not in the store"),
        ("/api/events/1/snapshot.jpg", 404, "event 1 has no picture"),
        ("/api/events/1/clip.mp4", 404, "event 1 has no clip"),
        ("/api/events/one", 404, "Not Found"),
        ("/api/nothing", 404, "Not Found"),
    ],
)
def test_what_is_not_there_gets_a_sentence(
    path: str, status: int, sentence: str, client: TestClient, tmp_path: Path
) -> None:
    stored(tmp_path, event())
    answer = client.get(path)
    assert (answer.status_code, sentence in answer.json()["error"]) == (status, True), answer.text


def test_before_a_run_has_made_the_store_there_is_none(client: TestClient, tmp_path: Path) -> None:
    assert client.get("/api/events").status_code == 404
    stored(tmp_path, event())
    assert len(client.get("/api/events").json()["events"]) == 1


CLIP = "20261123T091407.120Z_door.mp4"


def test_a_picture_a_clip_and_parts_of_it(client: TestClient, tmp_path: Path) -> None:
    stored(tmp_path, event(snapshot=b"jpeg"))
    (tmp_path / "events" / "clips").mkdir()
    (tmp_path / "events" / "clips" / CLIP).write_bytes(b"0123456789")
    with EventStore(tmp_path / "events") as store:
        store.attach_clip(1, CLIP)
    picture = client.get("/api/events/1/snapshot.jpg")
    assert (picture.content, picture.headers["content-type"]) == (b"jpeg", "image/jpeg")
    assert client.get("/api/events/1/boxes").json() == []
    boxes_of(tmp_path / "events" / "clips" / CLIP).write_bytes(b'{"at_s": 0.04}\n{"at_s": 0.08}\n{"at_')
    assert client.get("/api/events/1/boxes").json() == [{"at_s": 0.04}, {"at_s": 0.08}]
    whole = client.get("/api/events/1/clip.mp4")
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, b"0123456789", "bytes")
    assert whole.headers["x-captured-at"] == "2026-11-23T09:14:07.120Z", "when its first picture was taken"
    part = client.get("/api/events/1/clip.mp4", headers={"range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    assert client.get("/api/events/1/clip.mp4", headers={"range": "bytes=10-"}).status_code == 416
    assert client.delete("/api/events/1").json() == {"deleted": 1}
    assert not (tmp_path / "events" / "clips" / CLIP).exists()


@pytest.mark.parametrize("name", ["../../secret.txt", "/etc/hostname", ".."])
def test_a_clip_that_lies_elsewhere_is_none(name: str, client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_text("secret")
    stored(tmp_path, event())
    with EventStore(tmp_path / "events") as store:
        store.attach_clip(1, name)
    assert client.get("/api/events/1/clip.mp4").status_code == 404
    assert client.get("/api/events/1/boxes").json() == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, (0, 9, False)),
        ("bytes=0-", (0, 9, True)),
        ("bytes=0-0", (0, 0, True)),
        ("bytes=-4", (6, 9, True)),
        ("bytes=-99", (0, 9, True)),
        ("bytes=-", (0, 9, False)),
        ("bytes=1-2,4-5", (0, 9, False)),
        ("lines=1-2", (0, 9, False)),
    ],
)
def test_ranges(header: str | None, expected: tuple[int, int, bool]) -> None:
    assert byte_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-11", "bytes=5-4", "bytes=-0"])
def test_ranges_that_no_byte_is_in(header: str) -> None:
    with pytest.raises(RequestError, match="of 10 bytes"):
        byte_range(header, 10)
