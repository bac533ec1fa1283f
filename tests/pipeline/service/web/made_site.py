"""A site of the page's server with a store, a gallery and users, for tests without a run and without sockets."""

import json
from pathlib import Path

from argon2 import PasswordHasher
from litestar.testing import TestClient

from pipeline.service.accounts import Accounts
from pipeline.service.auth import Hosts, Role
from pipeline.service.web.app import make_app
from pipeline.service.web.hub import Hub
from pipeline.service.web.site import Places, Site
from pipeline.settings.schema import StreamSettings
from pipeline.store import EventStore, NewEvent
from pipeline.wire.messages import FrameMessage, HealthMessage, TimingsMessage

NOBODY_LISTENS = "tcp://127.0.0.1:9"
CSRF = "made"


def made_site(
    folder: Path, *, login: bool = False, streams: tuple[str, ...] = ("door", "yard"), **places: Path
) -> Site:
    """A site whose files lie in a folder."""
    settings = [StreamSettings(name=name, source="0") for name in streams]
    return Site(
        Hub(NOBODY_LISTENS, settings),
        Accounts(folder / "accounts.sqlite", hasher=PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)),
        Places(**{"store": folder / "events", "gallery": folder / "people.sqlite", **places}),
        Hosts(not login, ()),
        login=login,
        secure=login,
        local_csrf=CSRF,
        examine=lambda: {"ok": True},
    )


def client_of(site: Site) -> TestClient:
    """A browser of somebody who needs no login; each change carries what it must."""
    client = TestClient(make_app(site), base_url="http://127.0.0.1:8080")  # type: ignore[arg-type]
    client.headers["x-csrf-token"] = CSRF
    return client


def bearer(site: Site, role: Role, *streams: str) -> dict[str, str]:
    """The header of a program with a token."""
    _, token = site.accounts.add_token("made", role, streams, 1.0)
    return {"authorization": f"Bearer {token}"}


def stored(folder: Path, *events: NewEvent) -> list[int]:
    """Put events into a site's store."""
    with EventStore(folder / "events", create=True) as store:
        return store.add(events)


def event(at_s: float = 0.0, **fields: object) -> NewEvent:
    """An event of the stream ``door``, unless told otherwise."""
    given = {
        **{"at_ns": round(at_s * 1e9), "stream": "door", "event": "new", "kind": "object", "track": 1},
        **{"label": "person", "person": None, "place": None, "score": 0.9, "snapshot": None},
        **fields,
    }
    body = {key: value for key, value in given.items() if key not in ("snapshot", "body")}
    return NewEvent(**{"body": json.dumps(body, ensure_ascii=False).encode(), **given})  # type: ignore[arg-type]  # by name


def frame(stream: str = "door", seq: int = 0, **dropped: int) -> FrameMessage:
    """A frame in which nothing was seen."""
    return FrameMessage(
        stream=stream,
        seq=seq,
        captured_at="2026-11-23T09:14:07.120Z",
        size=(1920, 1080),
        objects=(),
        faces=(),
        scene=(),
        timings_ms=TimingsMessage(1.0, 2.0, 1.0, 4.0),
        dropped=dropped,
    )


def health(state: str, cause: str = "", stream: str = "door") -> HealthMessage:
    """What happened to a stream."""
    return HealthMessage(
        stream=stream, at="2026-11-23T09:14:07.120Z", state=state, cause=cause, captured=3, published=2
    )  # type: ignore[arg-type]
