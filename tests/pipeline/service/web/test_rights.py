"""Every route with nobody's, wrong, a viewer's and an administrator's rights."""

import re
from collections.abc import Iterator
from typing import Final

import pytest
from litestar import Litestar
from litestar.exceptions import WebSocketDisconnect
from litestar.testing import TestClient

from pipeline.gallery import Gallery
from pipeline.service.web.app import make_app
from pipeline.service.web.site import Site
from tests.pipeline.service.web.made_site import bearer, event, made_site, stored

# All that there is; a route that is not here makes the test fail, so that nobody forgets to think about it.
NOBODY: Final = {"POST /api/login", "GET /healthz", "GET /readyz", "GET /api/links/snapshot.jpg"}
VIEWER: Final = {
    "GET /api/me",
    "POST /api/logout",
    "GET /api/streams",
    "GET /api/mjpeg/{name}",
    "GET /api/events",
    "GET /api/events/counts",
    "GET /api/events/{number}",
    "GET /api/events/{number}/snapshot.jpg",
    "GET /api/events/{number}/clip.mp4",
    "GET /api/events/{number}/boxes",
    "GET /api/people",
    "GET /api/streams/{name}/zones",
}
ADMIN: Final = {
    "DELETE /api/events/{number}",
    "GET /api/people/unknown",
    "POST /api/people",
    "PATCH /api/people/{name}",
    "DELETE /api/people/{name}",
    "DELETE /api/people/{name}/views/{number}",
    "GET /api/people/{name}/export.zip",
    "POST /api/who",
    "PUT /api/streams/{name}/zones",
    "POST /api/streams",
    "GET /api/streams/{name}",
    "PATCH /api/streams/{name}",
    "DELETE /api/streams/{name}",
    "PUT /api/streams/{name}/switches",
    "GET /api/settings",
    "PATCH /api/settings",
    "POST /api/reload",
    "GET /api/system",
    "GET /api/users",
    "POST /api/users",
    "DELETE /api/users/{name}",
    "GET /api/tokens",
    "POST /api/tokens",
    "DELETE /api/tokens/{number}",
    "GET /api/audit",
}
SOCKETS: Final = {"/api/live", "/api/video/{name}"}  # for viewers
OF_A_STREAM: Final = sorted(route for route in VIEWER if "{" in route)
ROUTES: Final = sorted(NOBODY | VIEWER | ADMIN)
REFUSED: Final = (401, 403)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    tmp_path = tmp_path_factory.mktemp("site")
    stored(tmp_path, event(1.0, stream="door", snapshot=b"jpeg"), event(2.0, stream="yard", snapshot=b"jpeg"))
    Gallery(tmp_path / "people.sqlite", "model").close()
    return made_site(tmp_path, login=True)


@pytest.fixture(scope="module")
def client(site: Site) -> Iterator[TestClient[Litestar]]:
    with TestClient(make_app(site), base_url="https://127.0.0.1:8443") as client:  # type: ignore[arg-type]
        yield client


def ask(client: TestClient[Litestar], route: str, headers: dict[str, str], stream: str = "door") -> int:
    method, path = route.split(" ")
    number = {"door": "1", "yard": "2"}.get(stream, "99")
    return client.request(
        method, path.replace("{name}", stream).replace("{number}", number), headers=headers
    ).status_code


def test_the_table_above_has_every_route(client: TestClient[Litestar], site: Site) -> None:
    paths = client.get("/api/openapi.json", headers=bearer(site, "viewer")).json()["paths"]
    assert sorted(f"{method.upper()} {path}" for path, methods in paths.items() for method in methods) == ROUTES


def test_what_is_not_described_is_the_pages_files_the_description_and_websockets(site: Site) -> None:
    paths = {re.sub(r":\w+}", "}", route.path) for route in make_app(site)._app.routes}  # type: ignore[attr-defined]
    pages = {"/", "/page/{file}", "/api", "/api/{path}", "/api/openapi.json"}
    assert paths - {route.split(" ")[1] for route in ROUTES} == pages | SOCKETS


@pytest.mark.parametrize("route", ROUTES)
def test_without_rights(route: str, client: TestClient[Litestar]) -> None:
    assert (ask(client, route, {}) == 401) == (route not in NOBODY)


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    "headers",
    [{"authorization": "Bearer wrong"}, {"authorization": "Basic YTpi"}, {"cookie": "trunkline=wrong"}],
    ids=["token", "scheme", "session"],
)
def test_with_wrong_rights(route: str, headers: dict[str, str], client: TestClient[Litestar]) -> None:
    assert (ask(client, route, headers) == 401) == (route not in NOBODY)


@pytest.mark.parametrize("route", ROUTES)
def test_with_a_token_that_ended(route: str, client: TestClient[Litestar], site: Site) -> None:
    _, token = site.accounts.add_token("made", "admin", (), days=1e-9)  # which is a tenth of a millisecond
    assert (ask(client, route, {"authorization": f"Bearer {token}"}) == 401) == (route not in NOBODY)


@pytest.mark.parametrize("route", ROUTES)
def test_with_a_viewers_rights(route: str, client: TestClient[Litestar], site: Site) -> None:
    status = ask(client, route, bearer(site, "viewer", "door"))
    assert status == 403 if route in ADMIN else status not in REFUSED


@pytest.mark.parametrize("route", OF_A_STREAM)
def test_with_a_viewers_rights_to_another_stream(route: str, client: TestClient[Litestar], site: Site) -> None:
    assert ask(client, route, bearer(site, "viewer", "door"), "yard") == 403


@pytest.mark.parametrize("route", ROUTES)
def test_with_an_administrators_rights(route: str, client: TestClient[Litestar], site: Site) -> None:
    assert ask(client, route, bearer(site, "admin"), "nowhere") not in REFUSED


def test_a_viewer_sees_own_streams_alone(client: TestClient[Litestar], site: Site) -> None:
    headers = bearer(site, "viewer", "yard")
    assert [stream["name"] for stream in client.get("/api/streams", headers=headers).json()] == ["yard"]
    assert [each["id"] for each in client.get("/api/events", headers=headers).json()["events"]] == [2]
    assert client.get("/api/events?stream=yard&stream=door", headers=headers).status_code == 403
    assert client.get("/api/events", headers=bearer(site, "viewer")).json() == {"events": [], "next": None}


@pytest.mark.parametrize(
    ("path", "headers", "code"),
    [
        ("/api/live", {}, 4401),
        ("/api/live", {"authorization": "Bearer wrong"}, 4401),
        ("/api/live?streams=door,yard", None, 4403),
        ("/api/video/door", {}, 4401),
        ("/api/video/yard", None, 4403),
        ("/api/live", {"origin": "https://evil.example"}, 4403),
        ("/api/live", {"host": "evil.example"}, 4403),
    ],
    ids=["nobody", "wrong", "another stream", "nobody's video", "another's video", "another site", "another name"],
)
def test_a_websocket_is_refused(
    path: str, headers: dict[str, str] | None, code: int, client: TestClient[Litestar], site: Site
) -> None:
    given = bearer(site, "viewer", "door") if headers is None else headers
    with pytest.raises(WebSocketDisconnect) as refused, client.websocket_connect(path, headers=given):
        pass
    assert refused.value.code == code
