"""What every request passes first, and what every answer carries."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import unquote

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.di import NamedDependency
from litestar.enums import ScopeType
from litestar.exceptions import HTTPException, WebSocketException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import SkipValidation
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from engines.errors import RequestError, StoreError, TrunklineError
from pipeline.service.auth import SAFE_METHODS, Right, Who, check_csrf, permit
from pipeline.service.web.site import Site

RIGHT: Final = "right"  # of a route's options
OF_STREAM: Final = "of_stream"  # the path parameter that names the stream which a route is about

SLASH: Final = "\ue000"  # within a part of a path, where a name has one: of those that Unicode keeps free

TheSite = NamedDependency[SkipValidation[Site]]
TheReader = NamedDependency[SkipValidation[Who]]

CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS: Final = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def needs(right: Right, of_stream: str | None = None) -> dict[str, Any]:
    """Return the options of a route that asks for a right, of the stream that a path parameter names."""
    return {RIGHT: right, OF_STREAM: of_stream}


def guard(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Let a request or a WebSocket to its route, or raise RequestError; a route that says no right is for admins."""
    with as_close(connection):
        _admit(connection, handler)


@contextmanager
def as_close(connection: ASGIConnection[Any, Any, Any, Any]) -> Iterator[None]:
    """Let a RequestError close a WebSocket, with 4000 and its status."""
    try:
        yield
    except RequestError as refusal:
        if connection.scope["type"] != ScopeType.WEBSOCKET:
            raise
        raise WebSocketException(code=4000 + refusal.status, detail=str(refusal)[:100]) from refusal


def _admit(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    site: Site = connection.app.state.site
    for key, value in connection.path_params.items():
        if isinstance(value, str):
            connection.path_params[key] = value.replace(SLASH, "/")
    right: Right = handler.opt.get(RIGHT, "admin")
    who = None if right == "nobody" and site.login else site.who(connection)
    parameter = handler.opt.get(OF_STREAM)
    permit(who, right, None if parameter is None else connection.path_params[parameter])
    method = str(connection.scope.get("method", "GET"))
    if right != "nobody":
        check_csrf(who, method, connection.headers.get("x-csrf-token"))
    connection.scope["user"] = who


def user_of(request: ASGIConnection[Any, Any, Any, Any]) -> Who:
    """Return who sent a request, once the guard has let it in."""
    who: Who | None = request.scope["user"]
    if who is None:  # only where a route is for nobody in particular
        raise RequestError(401, "log in first")
    return who


class OuterGate:
    """The outermost ASGI application: checks the names by which a request came, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        changes = scope["type"] == ScopeType.WEBSOCKET or scope.get("method") not in SAFE_METHODS
        try:
            self._site.hosts.check(headers, changes)
        except RequestError as refusal:
            await _refuse(scope, send, refusal)
            return
        await self._app(scope | {"path": _path(scope)}, receive, _with_headers(send))


def _path(scope: Scope) -> str:
    """The path of a request, in which a slash that was sent as %2F is part of a name and separates nothing.

    >>> _path({"raw_path": b"/api/people/AC%2FDC", "path": "/api/people/AC/DC"}) == f"/api/people/AC{SLASH}DC"
    True
    """
    raw = scope.get("raw_path")
    if not raw or b"%2f" not in raw.lower():
        return str(scope["path"])
    return "/".join(unquote(part).replace("/", SLASH) for part in raw.decode("latin-1").partition("?")[0].split("/"))


async def _refuse(scope: Scope, send: Send, refusal: RequestError) -> None:
    if scope["type"] == ScopeType.WEBSOCKET:
        await send({"type": "websocket.close", "code": 4000 + refusal.status, "reason": str(refusal)[:100]})
        return
    body = json.dumps({"error": str(refusal)}).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *HEADERS]
    await send({"type": "http.response.start", "status": refusal.status, "headers": head})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message["headers"])
            if not any(key.lower() == b"cache-control" for key, _ in given):
                given.append((b"cache-control", b"no-store"))
            message["headers"] = [*given, *HEADERS]
        await send(message)

    return sending


def _error(status: int, sentence: str) -> Response[dict[str, str]]:
    return Response({"error": sentence}, status_code=status, media_type="application/json")


def refused(request: Request[Any, Any, Any], error: RequestError) -> Response[dict[str, str]]:
    """Answer a request that was refused."""
    return _error(error.status, _without_folders(request, error))


def not_allowed(request: Request[Any, Any, Any], error: TrunklineError) -> Response[dict[str, str]]:
    """Answer a request whose values are not allowed."""
    return _error(404 if isinstance(error, StoreError) else 400, _without_folders(request, error))


def _without_folders(request: Request[Any, Any, Any], error: TrunklineError) -> str:
    """What an error says; of the site's files their names alone: where they lie on this host is nobody's business."""
    sentence = str(error)
    for folder in request.app.state.site.folders:
        sentence = sentence.replace(f"{folder}/", "")
    return sentence


def out_of_range(_: Request[Any, Any, Any], __: OverflowError | RecursionError) -> Response[dict[str, str]]:
    """Answer a request with a number that no file can hold, or with lists in lists that go too deep to be read."""
    return _error(400, "a number of the request is too large, or its JSON is nested too deeply")


def framework_error(_: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, str]]:
    """Answer what the framework refuses, in our form."""
    extra = error.extra if isinstance(error.extra, list) else []
    why = "; ".join(": ".join(filter(None, (each.get("key"), each.get("message")))) for each in extra)
    return _error(error.status_code, f"{error.detail}{f' ({why})' if why else ''}")
