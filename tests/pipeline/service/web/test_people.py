"""Naming unknown faces from their pictures, and all that is done with people afterwards."""

import dataclasses
import io
import json
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from litestar.testing import TestClient

import pipeline.service.web.faces
import pipeline.service.web.people
from engines.spec import Thresholds
from pipeline.gallery import Gallery
from pipeline.service.web.site import Site
from pipeline.store import EventStore, NewEvent
from tests.pipeline.service.web.made_site import client_of, event, made_site, stored
from tests.tools.made_engines import MODEL, open_made

ONE, OTHER, KNOWN = 160, 250, 205  # how bright a face is: the made engine's embedding


def snapshot(bright: int, lit: bool = True) -> bytes:
    """The picture of a face in the middle of a grey one, sharp and well lit or flat."""
    pixels = np.full((192, 192, 3), 60, np.uint8)
    pixels[40:150, 50:140, 0] = bright
    if lit:
        pixels[40:150, 50:140, 1] = np.random.default_rng(0).integers(0, 70, (110, 90))
        pixels[40:150, 50:140, 2] = np.linspace(0, 255, 110)[:, None]
    return cv2.imencode(".png", pixels)[1].tobytes()


def face(at_s: float, bright: int | None, **fields: object) -> NewEvent:
    given = {"event": "ended", "kind": "face", "label": None, "track": round(at_s), "body": json.dumps({}).encode()}
    picture = None if bright is None else snapshot(bright)
    return event(at_s, **{**given, "snapshot": picture, **fields})


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    spec = msgspec.structs.replace(MODEL.spec, thresholds=Thresholds(identity_similarity=0.97))
    monkeypatch.setattr(pipeline.service.web.faces, "open_engine", open_made)
    model = dataclasses.replace(MODEL, spec=spec)
    monkeypatch.setattr(pipeline.service.web.faces, "load_model", lambda path: model)
    return made_site(tmp_path)


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with client_of(site) as client:
        yield client


def now_s() -> float:
    return time.time() - 100


def test_unknown_faces_come_in_groups_without_those_whom_the_gallery_knows(client: TestClient, tmp_path: Path) -> None:
    at = now_s()
    faces = [face(at + row, bright) for row, bright in enumerate((ONE, OTHER, ONE, KNOWN, ONE))]
    ids = stored(tmp_path, *faces, face(at + 9, None), face(at + 10, OTHER, person="Bob"), face(at - 9e5, ONE))
    client.post("/api/people", json={"name": "Ada", "event_ids": [ids[3]]}).raise_for_status()
    groups = client.get("/api/people/unknown").json()
    assert [sorted(group["event_ids"]) for group in groups] == [[ids[0], ids[2], ids[4]], [ids[1]]]
    assert groups[0]["count"] == 3 and groups[0]["group"] == groups[0]["event_ids"][0]
    assert groups[0]["streams"] == ["door"]


def test_a_group_is_offered_for_naming_only_with_views_that_can_be_enrolled(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = now_s()
    (flat,) = stored(tmp_path, face(at, ONE, snapshot=snapshot(ONE, lit=False)))
    stored(tmp_path, *(face(at + row, ONE) for row in range(1, 5)))
    stored(tmp_path, *(face(at + row, OTHER, snapshot=snapshot(OTHER, lit=False)) for row in range(10, 16)))
    monkeypatch.setattr(pipeline.service.web.people, "MAX_EVENTS", 3)
    good, bad = client.get("/api/people/unknown").json()
    assert (good["count"], good["flaw"], len(good["event_ids"])) == (5, None, 3) and flat not in good["event_ids"]
    assert bad["count"] == 6 and bad["flaw"].startswith("is badly lit: its brightness is ")
    refused = client.post("/api/people", json={"name": "Bob", "event_ids": bad["event_ids"]})
    assert (refused.status_code, bad["flaw"] in refused.json()["error"]) == (400, True)
    named = client.post("/api/people", json={"name": "Ada", "event_ids": good["event_ids"]})
    assert (named.status_code, named.json()["name"]) == (201, "Ada")


def test_a_group_that_is_named_is_known_from_then_on_and_its_events_are_found(
    client: TestClient, tmp_path: Path
) -> None:
    ids = stored(tmp_path, face(now_s(), ONE), face(now_s() + 1, ONE))
    named = client.post("/api/people", json={"name": " Ada ", "event_ids": ids, "consent": "signed"})
    assert named.status_code == 201 and named.json()["name"] == "Ada"
    assert client.get("/api/people/unknown").json() == []
    assert [each["id"] for each in client.get("/api/events?person=Ada").json()["events"]] == ids[::-1]
    with Gallery(tmp_path / "people.sqlite") as gallery:
        (person,) = gallery.people()
    assert (person.consent, person.photos) == ("signed", person.embeddings)


def test_what_shows_no_face_is_not_enrolled(client: TestClient, tmp_path: Path) -> None:
    ids = stored(tmp_path, face(now_s(), None))
    refused = client.post("/api/people", json={"name": "Ada", "event_ids": ids})
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "'Ada' was not enrolled: the pictures of these events show no face",
    )
    assert not (tmp_path / "people.sqlite").exists()


def test_a_face_that_is_not_theirs_is_taken_back(client: TestClient, tmp_path: Path) -> None:
    ids = stored(tmp_path, face(now_s(), ONE), face(now_s() + 1, OTHER))
    client.post("/api/people", json={"name": "Ada", "event_ids": ids}).raise_for_status()
    assert client.delete(f"/api/people/Ada/views/{ids[1]}").json()["embeddings"] == 1
    assert [group["event_ids"] for group in client.get("/api/people/unknown").json()] == [[ids[1]]]


def test_a_wrong_name_is_taken_back_though_nobody_in_the_gallery_has_it(client: TestClient, tmp_path: Path) -> None:
    Gallery(tmp_path / "people.sqlite", MODEL.fingerprint).close()
    wrong, right = stored(tmp_path, face(now_s(), ONE, person="Bob"), face(now_s(), ONE, person="Eve"))
    assert client.delete(f"/api/people/Bob/views/{right}").status_code == 404
    assert client.delete(f"/api/people/Bob/views/{wrong}").status_code == 200
    assert [client.get(f"/api/events/{number}").json()["person"] for number in (wrong, right)] == [None, "Eve"]


def test_whoever_has_no_view_left_is_gone(client: TestClient, tmp_path: Path) -> None:
    (number,) = stored(tmp_path, face(now_s(), ONE))
    client.post("/api/people", json={"name": "Ada", "event_ids": [number]}).raise_for_status()
    left = client.delete(f"/api/people/Ada/views/{number}")
    assert (left.status_code, left.json()["embeddings"]) == (200, 0)
    assert client.get(f"/api/events/{number}").json()["person"] is None


def test_a_name_may_hold_a_slash(client: TestClient, tmp_path: Path, site: Site) -> None:
    enrolled(tmp_path, "AC/DC")
    stored(tmp_path, named(1.0, "AC/DC"))
    assert client.patch("/api/people/AC%2FDC", json={"rename": "A/C %2F D"}).json()["name"] == "A/C %2F D"
    assert client.get("/api/people/A%2FC%20%252F%20D/export.zip").status_code == 200
    assert client.delete("/api/people/A%2FC%20%252f%20D").status_code == 404, "this is another name"
    assert client.delete("/api/people/A%2fC%20%252F%20D").json()["events"] == 1
    assert client.get("/api/people").json() == []
    assert client.delete("/api/people/AC/DC").status_code in (404, 405), "a slash that separates is another path"
    assert [deed.action for deed in site.accounts.deeds()][-1] == "PATCH /api/people/AC/DC"


def enrolled(folder: Path, *names: str) -> None:
    with Gallery(folder / "people.sqlite", MODEL.fingerprint) as gallery:
        for row, name in enumerate(names):
            gallery.enroll(name, np.eye(128, dtype=np.float32)[row : row + 1], ["a.jpg"], photos=[b"photo"])


def named(at_s: float, name: str, **fields: object) -> NewEvent:
    return event(at_s, event="ended", kind="identity", label=name, person=name, **fields)


def test_renaming_takes_the_events_along(client: TestClient, tmp_path: Path) -> None:
    enrolled(tmp_path, "José")
    stored(tmp_path, named(1.0, "José", snapshot=b"jpeg"))
    assert client.patch("/api/people/José", json={"rename": "Pepe"}).json()["name"] == "Pepe"
    (event,) = client.get("/api/events?person=Pepe").json()["events"]
    assert (event["label"], event["body"]["label"], event["has_snapshot"]) == ("Pepe", "Pepe", True)
    assert client.get("/api/events?person=José").json()["events"] == []


def test_a_name_that_is_taken_is_no_new_name_but_two_can_be_merged(client: TestClient, tmp_path: Path) -> None:
    enrolled(tmp_path, "Ada", "Bob")
    stored(tmp_path, named(1.0, "Bob"))
    refused = client.patch("/api/people/Bob", json={"rename": "Ada"})
    assert refused.status_code == 400 and "there is 'Ada' already" in refused.json()["error"]
    merged = client.patch("/api/people/Bob", json={"merge_into": "Ada"}).json()
    assert (merged["name"], merged["embeddings"]) == ("Ada", 2)
    assert [person["name"] for person in client.get("/api/people").json()] == ["Ada"]
    assert len(client.get("/api/events?person=Ada").json()["events"]) == 1


def test_consent_and_expiry_are_set_each_alone(client: TestClient, tmp_path: Path) -> None:
    enrolled(tmp_path, "Ada")
    client.patch("/api/people/Ada", json={"expires_at": "2099-12-31"}).raise_for_status()
    kept = client.patch("/api/people/Ada", json={"consent": "signed"}).json()
    assert (kept["consent"], kept["expires_at"]) == ("signed", "2100-01-01T00:00:00.000Z")
    never = client.patch("/api/people/Ada", json={"expires_at": None}).json()
    assert (never["consent"], never["expires_at"]) == ("signed", None)
    assert "must be a date" in client.patch("/api/people/Ada", json={"expires_at": "soon"}).json()["error"]


@pytest.mark.parametrize("clips", [False, True])
def test_who_is_forgotten_is_in_no_file_any_more(clips: bool, client: TestClient, site: Site, tmp_path: Path) -> None:
    enrolled(tmp_path, "Ada")
    ids = stored(tmp_path, named(1.0, "Ada", snapshot=b"jpeg of her"), event(2.0))
    (tmp_path / "events" / "clips").mkdir()
    clip = tmp_path / "events" / "clips" / "1.mp4"
    clip.write_bytes(b"video")
    with EventStore(tmp_path / "events") as store:
        store.attach_clip(ids[0], "1.mp4")
    gone = client.delete("/api/people/Ada", params={"clips": clips})
    assert gone.json() == {"name": "Ada", "embeddings": 1, "events": 1}
    assert client.get("/api/people").json() == []
    event_of_her = client.get(f"/api/events/{ids[0]}").json()
    assert (event_of_her["person"], event_of_her["label"], event_of_her["has_snapshot"]) == (None, None, False)
    assert (clip.exists(), event_of_her["clip"]) == (not clips, not clips)
    record = client.get("/api/audit").json()[0]
    assert (record["who"], record["action"]) == ("local", "DELETE /api/people/Ada")


def test_what_comes_of_somebody_just_after_they_are_forgotten_is_forgotten_too(site: Site, tmp_path: Path) -> None:
    enrolled(tmp_path, "Ada")
    stored(tmp_path, named(1.0, "Ada"))
    with client_of(site) as client:
        client.delete("/api/people/Ada").raise_for_status()
        stored(tmp_path, named(2.0, "Ada", snapshot=b"late"))  # was on its way
    with EventStore(tmp_path / "events") as store:
        assert {each.person for each in store.page().events} == {None}


def test_all_that_is_known_of_a_person_is_one_file(client: TestClient, tmp_path: Path) -> None:
    enrolled(tmp_path, "Ada", "Bob")
    stored(tmp_path, named(1.0, "Ada", snapshot=b"jpeg"), named(2.0, "Bob", snapshot=b"jpeg"))
    with zipfile.ZipFile(io.BytesIO(client.get("/api/people/Ada/export.zip").content)) as archive:
        assert sorted(archive.namelist()) == ["events.jsonl", "person.json", "photos/1.jpg", "snapshots/1.jpg"]
        person = json.loads(archive.read("person.json"))
        assert (person["name"], len(person["embeddings"])) == ("Ada", 1)
        assert b"Bob" not in archive.read("events.jsonl")


def test_who_is_on_a_photo(client: TestClient, tmp_path: Path) -> None:
    ids = stored(tmp_path, face(now_s(), ONE))
    client.post("/api/people", json={"name": "Ada", "event_ids": ids}).raise_for_status()
    found = client.post("/api/who", files={"photo": ("a.png", snapshot(ONE))}).json()
    assert [each["name"] for each in found] == ["Ada"] and found[0]["similarity"] > 0.97
    assert [each["name"] for each in client.post("/api/who", files={"photo": ("a.png", snapshot(OTHER))}).json()] == [
        None
    ]


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"photo": ("a.jpg", b"no picture")}, "photo: is not a picture that can be read"),
        ({"file": ("a.jpg", b"x")}, "the form must have one part, photo"),
    ],
)
def test_what_is_no_photo_gets_a_sentence(
    files: dict[str, tuple[str, bytes]], sentence: str, client: TestClient
) -> None:
    refused = client.post("/api/who", files=files)
    assert (refused.status_code, refused.json()) == (400, {"error": sentence})


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PATCH", "/api/people/Eve"),
        ("DELETE", "/api/people/Eve"),
        ("GET", "/api/people/Eve/export.zip"),
        ("DELETE", "/api/people/Eve/views/1"),
    ],
)
def test_who_is_not_there_is_not_found(method: str, path: str, client: TestClient, tmp_path: Path) -> None:
    enrolled(tmp_path, "Ada")
    stored(tmp_path)
    found = client.request(method, path, **({"json": {"rename": "Bob"}} if method == "PATCH" else {}))
    assert (found.status_code, found.json()["error"]) == (404, "there is no one called 'Eve'")
