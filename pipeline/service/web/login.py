"""Logging in and out; users, tokens and what was done."""

from typing import Annotated, Any

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter

from engines.errors import RequestError
from pipeline.service.accounts import SESSION_S, Deed, Token, User
from pipeline.service.auth import Role, Who
from pipeline.service.web.gate import TheReader, TheSite, needs
from pipeline.service.web.site import COOKIE

Text = Annotated[str, msgspec.Meta(max_length=500)]


class LoginRequest(msgspec.Struct, forbid_unknown_fields=True):
    """User and password; ``new`` replaces the password, which a printed one needs."""

    user: Text
    password: Text
    new: Text | None = None


class Me(msgspec.Struct):
    """Who the reader of the page is; ``csrf`` goes into the header X-CSRF-Token of every change."""

    user: str
    role: Role
    streams: tuple[str, ...]
    csrf: str
    loopback: bool


class NewUser(msgspec.Struct, forbid_unknown_fields=True):
    """Somebody who may log in; ``streams`` are those that a viewer may see."""

    name: Text
    role: Role
    streams: tuple[Text, ...] = ()


class Added(msgspec.Struct):
    """A new user, whose password is good for one login, and is told here alone."""

    name: str
    password: str


class NewToken(msgspec.Struct, forbid_unknown_fields=True):
    """What a program may do, and for how many days."""

    name: Text
    role: Role
    streams: tuple[Text, ...] = ()
    days: float = 90.0


class Issued(msgspec.Struct):
    """A new token, which is told here alone."""

    id: int
    token: str


def address_of(request: Request[Any, Any, Any]) -> str:
    """Return the address of the other end."""
    return request.client.host if request.client is not None else "unknown"


def _me(who: Who) -> Me:
    return Me(who.name, who.role, who.streams, who.csrf, who.login == "loopback")


@get("/api/me", opt=needs("viewer"), sync_to_thread=False)
def me(reader: TheReader) -> Me:
    """Return who is logged in, and the token that changes must carry."""
    return _me(reader)


@post("/api/login", opt=needs("nobody"), status_code=200, sync_to_thread=True)
def login(request: Request[Any, Any, Any], data: JSONBody[LoginRequest], site: TheSite) -> Response[Me]:
    """Log in; 409 where the password was a printed one and ``new`` is missing."""
    if not site.login:
        raise RequestError(409, "no login is needed here")
    address = address_of(request)
    try:
        secret, who = site.accounts.login(data.user, data.password, data.new, address)
    except RequestError as refusal:
        if refusal.status != 429:  # whoever goes on trying must not fill the disk
            site.accounts.record(data.user[:64], address, f"login: {refusal.status}")
        raise
    site.accounts.record(who.name, address, "login" if data.new is None else "login, with a new password")
    return Response(_me(who), cookies=[_cookie(secret, round(SESSION_S), site.secure)])


@post("/api/logout", opt=needs("viewer"), status_code=200, sync_to_thread=True)
def logout(request: Request[Any, Any, Any], site: TheSite) -> Response[dict[str, bool]]:
    """End the session."""
    secret = request.cookies.get(COOKIE)
    if secret is not None:
        site.accounts.logout(secret)
    return Response({"ok": True}, cookies=[_cookie("", 0, site.secure)])


def _cookie(secret: str, max_age_s: int, secure: bool) -> Cookie:
    return Cookie(COOKIE, value=secret, path="/", max_age=max_age_s, httponly=True, secure=secure, samesite="strict")


@get("/api/users", opt=needs("admin"), sync_to_thread=True)
def users(site: TheSite) -> list[User]:
    """Return all users."""
    return site.accounts.users()


@post("/api/users", opt=needs("admin"), sync_to_thread=True)
def add_user(data: JSONBody[NewUser], site: TheSite) -> Added:
    """Add a user."""
    return Added(data.name, site.accounts.add_user(data.name, data.role, data.streams))


@delete("/api/users/{name:str}", opt=needs("admin"), status_code=200, sync_to_thread=True)
def remove_user(name: FromPath[str], site: TheSite) -> dict[str, bool]:
    """Delete a user, whose sessions end."""
    site.accounts.remove_user(name)
    return {"ok": True}


@get("/api/tokens", opt=needs("admin"), sync_to_thread=True)
def tokens(site: TheSite) -> list[Token]:
    """Return all tokens, without what they are."""
    return site.accounts.tokens()


@post("/api/tokens", opt=needs("admin"), sync_to_thread=True)
def add_token(data: JSONBody[NewToken], site: TheSite) -> Issued:
    """Make a token for a program."""
    return Issued(*site.accounts.add_token(data.name, data.role, data.streams, data.days))


@delete("/api/tokens/{number:int}", opt=needs("admin"), status_code=200, sync_to_thread=True)
def remove_token(number: FromPath[int], site: TheSite) -> dict[str, bool]:
    """Let a token give no right any more."""
    site.accounts.remove_token(number)
    return {"ok": True}


@get("/api/audit", opt=needs("admin"), sync_to_thread=True)
def audit(
    site: TheSite, limit: Annotated[int, QueryParameter(ge=1, le=1000)] = 200, before: FromQuery[int | None] = None
) -> list[Deed]:
    """Return what was done, the latest first, before a number."""
    return site.accounts.deeds(limit, before)


ROUTES = (me, login, logout, users, add_user, remove_user, tokens, add_token, remove_token, audit)
