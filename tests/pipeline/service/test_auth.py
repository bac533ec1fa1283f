"""Who may do what, and by which names a server is reached."""

import pytest

from engines.errors import RequestError
from pipeline.service.auth import Hosts, Who, check_csrf, permit

VIEWER = Who("eve", "viewer", ("door",), "cookie", "token")
ADMIN = Who("ada", "admin", (), "cookie", "token")


@pytest.mark.parametrize(
    ("who", "right", "stream", "status"),
    [
        (None, "nobody", None, None),
        (None, "viewer", None, 401),
        (None, "admin", None, 401),
        (VIEWER, "viewer", None, None),
        (VIEWER, "viewer", "door", None),
        (VIEWER, "viewer", "yard", 403),
        (VIEWER, "admin", None, 403),
        (VIEWER, "admin", "door", 403),
        (ADMIN, "admin", "yard", None),
        (ADMIN, "viewer", "yard", None),
    ],
)
def test_rights(who: Who | None, right: str, stream: str | None, status: int | None) -> None:
    if status is None:
        permit(who, right, stream)  # type: ignore[arg-type]
        return
    with pytest.raises(RequestError) as refusal:
        permit(who, right, stream)  # type: ignore[arg-type]
    assert refusal.value.status == status


@pytest.mark.parametrize("header", [None, "", "other"])
def test_a_change_without_its_csrf_token_is_refused(header: str | None) -> None:
    with pytest.raises(RequestError, match="X-CSRF-Token"):
        check_csrf(ADMIN, "POST", header)
    check_csrf(ADMIN, "GET", header)
    check_csrf(Who("token phone", "admin", (), "token"), "POST", header)  # no browser sends that by itself


@pytest.mark.parametrize(
    ("loopback", "host", "allowed"),
    [
        (True, "127.0.0.1:8080", True),
        (True, "localhost:8080", True),
        (True, "[::1]:8080", True),
        (True, "LOCALHOST", True),
        (True, "evil.example:8080", False),
        (True, "192.168.1.5:8080", False),
        (True, "127.0.0.1.evil.example", False),
        (True, "", False),
        (False, "192.168.1.5:8443", True),
        (False, "[fe80::1]:8443", True),
        (False, "evil.example", False),
        (False, "cameras.example", True),
    ],
)
def test_names_by_which_a_server_is_reached(loopback: bool, host: str, allowed: bool) -> None:
    hosts = Hosts(loopback, () if loopback else ("cameras.example",))
    if allowed:
        hosts.check({"host": host}, changes=False)
    else:
        with pytest.raises(RequestError, match="Host header"):
            hosts.check({"host": host}, changes=False)


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://127.0.0.1:8080", True),
        ("https://127.0.0.1:8080", True),  # behind a proxy that speaks TLS
        ("http://127.0.0.1:9090", False),
        ("http://evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_changes_come_from_this_servers_own_pages(origin: str | None, allowed: bool) -> None:
    headers = {"host": "127.0.0.1:8080"} | ({} if origin is None else {"origin": origin})
    Hosts(True, ()).check(headers, changes=False)
    if allowed:
        Hosts(True, ()).check(headers, changes=True)
    else:
        with pytest.raises(RequestError, match="Origin header"):
            Hosts(True, ()).check(headers, changes=True)
