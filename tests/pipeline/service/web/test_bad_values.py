"""Requests with values that no file can hold and no reader can follow: a sentence, and never a fault of the server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar.testing import TestClient

from pipeline.gallery import Gallery
from tests.pipeline.service.web.made_site import bearer, client_of, event, made_site, stored

BEYOND = 2**63  # SQLite's largest number is one less
DEEP = b"[" * 200_000


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("site")
    stored(folder, event(1.0))
    Gallery(folder / "people.sqlite", "model").close()
    with client_of(made_site(folder)) as client:
        yield client


@pytest.mark.parametrize(
    ("route", "sent"),
    [
        ("POST /api/login", {"content": DEEP}),
        ("POST /api/people", {"content": DEEP}),
        ("PUT /api/streams/door/zones", {"content": b'{"zones":' + DEEP}),
        (f"GET /api/events/{BEYOND}", {}),
        (f"GET /api/events/{BEYOND}/clip.mp4", {}),
        (f"DELETE /api/events/{BEYOND}", {}),
        (f"GET /api/events?track={BEYOND}", {}),
        ("GET /api/events?cursor=9999999999999999999-1", {}),
        (f"GET /api/audit?before={BEYOND}", {}),
        (f"DELETE /api/tokens/{BEYOND}", {}),
        (f"DELETE /api/people/x/views/{BEYOND}", {}),
        ("POST /api/people", {"json": {"name": "Ada", "event_ids": [BEYOND]}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_out_of_range_gets_one_sentence(route: str, sent: dict[str, Any], client: TestClient) -> None:
    method, path = route.split(" ")
    answer = client.request(method, path, **sent)
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "a number of the request is too large, or its JSON is nested too deeply"},
    )


@pytest.mark.parametrize(
    ("moments", "found"),
    [("since=0001-01-01T00:00:00Z", 1), ("until=9999-12-31T23:59:59Z", 1), ("since=9999-12-31T23:59:59Z", 0)],
)
def test_moments_that_no_clock_will_tell_are_before_or_behind_everything(
    moments: str, found: int, client: TestClient
) -> None:
    assert len(client.get(f"/api/events?{moments}").json()["events"]) == found


def _nothing(_: Path) -> None:
    pass


def _damaged(folder: Path) -> None:
    (folder / "events").mkdir()
    for file in ("events/events.sqlite", "people.sqlite", "run.toml"):
        (folder / file).write_bytes(b"no such thing " * 500)


@pytest.mark.parametrize("made", [_nothing, _damaged], ids=["missing", "damaged"])
def test_no_answer_says_where_files_lie_on_the_host(made: Callable[[Path], None], tmp_path: Path) -> None:
    made(tmp_path)
    site = made_site(tmp_path, config=tmp_path / "run.toml")
    with client_of(site) as client:
        for route in ("/api/events", "/api/events/1/clip.mp4", "/api/people", "/api/people/unknown"):
            answer = client.get(route, headers=bearer(site, "admin"))
            assert answer.status_code in (400, 404) and answer.json()["error"] and str(tmp_path) not in answer.text
        answer = client.put("/api/streams/door/zones", json={"zones": [], "lines": []})
        assert answer.status_code >= 400 and str(tmp_path) not in answer.text
    stored(tmp_path / "whole", event(1.0))
    with client_of(made_site(tmp_path / "whole")) as client:
        assert client.get("/api/events/99").json() == {"error": "event 99: is not in the store, or not any more"}
