"""What is heard of a run, as the page is told of it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient

import pipeline.service.web.hub
import pipeline.service.web.live
from pipeline.service.web.hub import MAX_FRAMES, MAX_OTHERS, SILENT_S, HeardState, Listener
from pipeline.service.web.site import Site
from tests.pipeline.service.web.made_site import bearer, client_of, frame, health, made_site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return made_site(tmp_path)


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with client_of(site) as client:
        yield client


def test_a_reader_gets_the_messages_of_its_streams_as_they_are_published(client: TestClient, site: Site) -> None:
    with client.websocket_connect("/api/live?streams=door") as socket:
        site.hub.hear(frame("yard"))
        site.hub.hear(frame("door", 7, stale=2))
        message = json.loads(socket.receive_text())
    assert (message["type"], message["stream"], message["seq"], message["dropped"]) == (
        "frame",
        "door",
        7,
        {"stale": 2},
    )


def test_a_viewer_hears_own_streams_alone(client: TestClient, site: Site) -> None:
    with client.websocket_connect("/api/live", headers=bearer(site, "viewer", "yard")) as socket:
        site.hub.hear(frame("door"))
        site.hub.hear(frame("yard"))
        assert json.loads(socket.receive_text())["stream"] == "yard"


def test_a_reader_whose_token_was_taken_back_is_shut_out(
    client: TestClient, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.service.web.live, "LOOK_S", 0.05)
    headers = bearer(site, "viewer", "door")
    with client.websocket_connect("/api/live", headers=headers) as socket:
        site.accounts.remove_token(site.accounts.tokens()[-1].id)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text(timeout=10)
    assert closed.value.code == 4401


def test_a_slow_reader_loses_the_oldest_frames_and_keeps_events(tmp_path: Path) -> None:
    async def read() -> list[str]:
        listener = Listener(None)
        for number in range(MAX_FRAMES + 10):
            listener.offer("door", True, f"frame {number}")
        for number in range(MAX_OTHERS):
            listener.offer("door", False, f"event {number}")
        assert listener.lost == 10
        return [await listener.next() for _ in range(MAX_OTHERS + MAX_FRAMES)]

    heard = asyncio.run(read())
    assert heard[0] == "event 0" and heard[MAX_OTHERS] == "frame 10" and heard[-1] == f"frame {MAX_FRAMES + 9}"


def test_streams_tell_how_they_are(client: TestClient, site: Site) -> None:
    site.hub.hear(frame("door", 9, stale=2))
    site.hub.hear(health("down", "nothing was received for 5 s", "yard"))
    door, yard = client.get("/api/streams").json()
    assert (door["state"], door["size"], door["captured"], door["published"], door["dropped"]) == (
        "up",
        [1920, 1080],
        10,
        8,
        {"stale": 2},
    )
    assert door["latency_ms"] == {"p50": 4.0, "p99": 4.0} and door["fps"] == 0.2
    assert (yard["state"], yard["cause"], yard["size"]) == ("down", "nothing was received for 5 s", None)
    assert [line["cause"] for line in client.get("/api/system").json()["happened"]] == ["nothing was received for 5 s"]


def test_the_end_of_the_runs_log_is_told_and_the_machine_is_waited_for_by_nobody(tmp_path: Path) -> None:
    log, looked = tmp_path / "log", threading.Event()
    log.write_text("".join(f"line {number}\n" for number in range(1000)))
    site = made_site(tmp_path, log=log)
    site.examine = lambda: looked.wait(20) and {"ok": True}
    with client_of(site) as client:
        first = client.get("/api/system").json()
        looked.set()
        assert first["machine"] is None and first["log"] == [f"line {number}" for number in range(800, 1000)]
        while (machine := client.get("/api/system").json()["machine"]) is None:
            pass
        assert machine == {"ok": True}


@pytest.mark.parametrize(
    ("last", "state"), [(frame(), "unknown"), (health("down", "gone"), "down"), (health("ended", "end"), "ended")]
)
def test_a_stream_that_was_up_and_is_silent_is_unknown(last: object, state: str) -> None:
    known = HeardState()
    known.take(last, 100.0)  # type: ignore[arg-type]
    assert known.at(100.0 + SILENT_S + 1)[0] == state


def test_the_server_is_ready_once_every_stream_is_up_or_told_down(client: TestClient, site: Site) -> None:
    assert client.get("/readyz").status_code == 503
    site.hub.hear(frame())
    asked = client.get("/readyz")
    assert (asked.status_code, asked.json()) == (503, {"status": "nothing is known of 1 of 2 streams"})
    site.hub.hear(health("down", "gone", "yard"))
    assert client.get("/readyz").status_code == 200
    assert client.get("/healthz").json() == {"status": "ok"}
