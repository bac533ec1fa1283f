"""Who may do what on the page's server: one rule for HTTP, WebSockets, media and the API alike."""

import ipaddress
import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from engines.errors import RequestError

Role = Literal["viewer", "admin"]
Right = Literal["nobody", "viewer", "admin"]  # what a route asks for
Login = Literal["loopback", "cookie", "token"]

LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "[::1]")
SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Who:
    """Whoever sends a request."""

    name: str
    role: Role
    streams: tuple[str, ...] = ()  # that a viewer may see; an administrator sees all
    login: Login = "cookie"
    csrf: str = ""  # what each change must carry, unless a token gives the right

    def sees(self, stream: str) -> bool:
        """Return whether a stream, and what comes of it, may be shown."""
        return self.role == "admin" or stream in self.streams

    def seen_of(self, streams: Collection[str]) -> tuple[str, ...]:
        """Return those of the streams that may be shown."""
        return tuple(stream for stream in streams if self.sees(stream))


def permit(who: Who | None, right: Right, stream: str | None = None) -> None:
    """Return where somebody has a right; every route, WebSocket and file asks here and nowhere else.

    Args:
        who: None: nobody in particular.
        right: what is needed.
        stream: whose pictures, events or settings are asked for; None: of none in particular.

    Raises:
        RequestError: 401 without a login, 403 without the right.
    """
    if right == "nobody":
        return
    if who is None:
        raise RequestError(401, "log in first, or send a token as Authorization: Bearer TOKEN")
    if right == "admin" and who.role != "admin":
        raise RequestError(403, f"{who.name!r} is a viewer, but this needs an administrator")
    if stream is not None and not who.sees(stream):
        raise RequestError(403, f"{who.name!r} may not see the stream {stream!r}")


def check_csrf(who: Who | None, method: str, header: str | None) -> None:
    """Refuse a change that another site could have made a browser send.

    Raises:
        RequestError: 403; the header X-CSRF-Token is not the one that /api/me gives.
    """
    if who is None or who.login == "token" or method in SAFE_METHODS:
        return
    if header is None or header != who.csrf:
        raise RequestError(403, "the header X-CSRF-Token must be the csrf that /api/me gives")


class Hosts:
    """The names by which browsers may reach the server, so that no other site's name leads here (DNS rebinding).

    Args:
        loopback: it listens on this host alone.
        named: more names, such as a proxy's.
    """

    def __init__(self, loopback: bool, named: Collection[str]) -> None:
        own = socket.gethostname().lower()
        self._loopback = loopback
        self._names = {*LOCAL_NAMES, *(name.lower() for name in named)}
        if not loopback:
            self._names |= {own, f"{own}.local"}

    def check(self, headers: Mapping[str, str], changes: bool) -> None:
        """Refuse a request that came by another name, or from another site.

        Args:
            headers: of the request, names in lower case.
            changes: whether it may change something, or opens a WebSocket: then its origin counts.

        Raises:
            RequestError: 403.
        """
        host = headers.get("host", "")
        name = _without_port(host).lower()
        if name not in self._names and (self._loopback or not _is_number(name)):
            raise RequestError(403, f"the Host header is {host[:100]!r}, which is none of this server's names")
        origin = headers.get("origin")
        if changes and origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise RequestError(403, f"the Origin header is {origin[:100]!r}, but must be this server's")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def _is_number(name: str) -> bool:
    """Whether it is an IP address, which no name server can lead astray."""
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
