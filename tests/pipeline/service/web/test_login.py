"""Logging in as a browser does, and the page's files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from litestar.testing import TestClient

import pipeline.service.web.files
from pipeline.service.web.app import make_app
from pipeline.service.web.site import COOKIE, Site
from tests.pipeline.service.web.made_site import client_of, made_site

OWN = "correct horse battery"


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return made_site(tmp_path, login=True)


@pytest.fixture
def client(site: Site) -> Iterator[TestClient]:
    with TestClient(make_app(site), base_url="https://127.0.0.1:8443") as client:  # type: ignore[arg-type]
        yield client


def test_from_the_printed_password_to_logging_out(client: TestClient, site: Site) -> None:
    printed = site.accounts.first_password()
    login = {"user": "admin", "password": printed}
    assert client.get("/api/me").status_code == 401
    assert client.post("/api/login", json=login).status_code == 409
    answer = client.post("/api/login", json=login | {"new": OWN})
    cookie = answer.headers["set-cookie"].lower()
    assert answer.status_code == 200 and f"{COOKIE}=" in cookie
    assert all(part in cookie for part in ("httponly", "secure", "samesite=strict", "path=/"))
    me = client.get("/api/me").json()
    assert (me["user"], me["role"], me["loopback"]) == ("admin", "admin", False) and me == answer.json()
    assert client.post("/api/users", json={"name": "eve", "role": "viewer"}).status_code == 403, "without a CSRF token"
    client.headers["x-csrf-token"] = me["csrf"]
    assert client.post("/api/users", json={"name": "eve", "role": "viewer", "streams": ["door"]}).status_code == 201
    assert client.post("/api/logout").status_code == 200
    assert client.get("/api/me").status_code == 401
    client.cookies.set(COOKIE, answer.cookies[COOKIE])
    assert client.get("/api/me").status_code == 401, "the session is over, whoever kept the cookie"
    assert [deed.action for deed in site.accounts.deeds()] == [
        "POST /api/logout",
        "POST /api/users",
        "login, with a new password",
        "login: 409",
    ]


def test_whoever_goes_on_with_wrong_passwords_does_not_fill_the_disk(client: TestClient, site: Site) -> None:
    statuses = [client.post("/api/login", json={"user": "eve", "password": "x"}).status_code for _ in range(8)]
    assert statuses == [401] * 5 + [429] * 3
    assert [deed.action for deed in site.accounts.deeds()] == ["login: 401"] * 5


def test_secrets_are_told_once_and_never_again(client: TestClient, site: Site) -> None:
    client.post("/api/login", json={"user": "admin", "password": site.accounts.first_password(), "new": OWN})
    client.headers["x-csrf-token"] = client.get("/api/me").json()["csrf"]
    password = client.post("/api/users", json={"name": "eve", "role": "viewer"}).json()["password"]
    token = client.post("/api/tokens", json={"name": "phone", "role": "viewer"}).json()["token"]
    for path in ("/api/users", "/api/tokens", "/api/audit", "/api/system"):
        assert not any(secret in client.get(path).text for secret in (password, token, OWN))
    assert client.get("/api/me", headers={"authorization": f"Bearer {token}"}).json()["user"] == "token phone"
    assert client.delete("/api/tokens/1").status_code == 200
    assert client.get("/api/me", headers={"authorization": f"Bearer {token}"}).status_code == 401


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"user": 1, "password": "x"}', b'{"user": "a"}', b""])
def test_what_is_no_login_gets_a_sentence(body: bytes, client: TestClient) -> None:
    refused = client.post("/api/login", content=body, headers={"content-type": "application/json"})
    assert refused.status_code == 400 and refused.json()["error"]


def test_another_site_cannot_log_a_browser_in(client: TestClient) -> None:
    login = {"user": "admin", "password": OWN}
    assert client.post("/api/login", json=login, headers={"origin": "https://evil.example"}).status_code == 403


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "page"
    (folder / "views").mkdir(parents=True)
    (folder / "index.html").write_text("<!doctype html>")
    (folder / "views" / "live.js").write_text("export {};")
    (folder / "notes.txt").write_text("not for browsers")
    monkeypatch.setattr(pipeline.service.web.files, "FOLDER", folder)
    return folder


def test_the_page_is_for_everybody_and_runs_no_script_of_others(page: Path, client: TestClient) -> None:
    index = client.get("/")
    assert (index.text, index.headers["content-type"]) == ("<!doctype html>", "text/html; charset=utf-8")
    policy = index.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe" not in policy
    script = client.get("/page/views/live.js")
    assert (script.text, script.headers["content-type"]) == ("export {};", "text/javascript; charset=utf-8")
    assert client.get("/", headers={"if-none-match": index.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    "path",
    [
        "/page/notes.txt",
        "/page/../accounts.sqlite",
        "/page/%2e%2e/accounts.sqlite",
        "/page/..%2faccounts.sqlite",
        "/page//etc/hostname",
        "/page/views",
        "/page/%00",
        "/page/views/../../accounts.sqlite",
    ],
)
def test_no_other_file_is_served(path: str, page: Path, client: TestClient) -> None:
    refused = client.get(path)
    assert refused.status_code == 404 and refused.json()["error"]


def test_every_answer_carries_the_headers_refusals_too(tmp_path: Path) -> None:
    with client_of(made_site(tmp_path)) as client:
        answers = [client.get("/api/me"), client.get("/none"), client.get("/", headers={"host": "evil.example"})]
    for answer in answers:
        assert (
            answer.headers["x-content-type-options"] == "nosniff"
            and "default-src" in answer.headers["content-security-policy"]
        )
    assert answers[2].status_code == 403
    assert answers[0].headers["cache-control"] == "no-store"
