"""Users, sessions, tokens and the audit log of the page's server, in one SQLite file."""

import hashlib
import hmac
import secrets
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError, VerifyMismatchError

from engines.errors import ConfigError, RequestError
from pipeline.database import FileKind, SqliteFile
from pipeline.frames.clock import timestamp
from pipeline.service.auth import Role, Who

FIRST_ADMIN: Final = "admin"
SESSION_S: Final = 7 * 86_400.0
MIN_PASSWORD: Final = 10  # characters
MAX_PASSWORD: Final = 200
AUDIT_DAYS: Final = 365.0
FAILURES: Final = {"from": 5, "user": 20}  # failed logins from one address, and of one user from anywhere ...
FAILURES_S: Final = 300.0  # ... within so many seconds, after which others are refused
REMEMBERED: Final = 10_000  # users and addresses whose failures are remembered

FORMAT_1: Final = """
CREATE TABLE users (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    streams TEXT NOT NULL,
    password TEXT NOT NULL,
    once INTEGER NOT NULL,
    added_at TEXT NOT NULL
);
CREATE TABLE sessions (
    hash BLOB PRIMARY KEY,
    user TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    until_s REAL NOT NULL
);
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    hash BLOB NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    streams TEXT NOT NULL,
    added_at TEXT NOT NULL,
    until_s REAL NOT NULL
);
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_s REAL NOT NULL,
    who TEXT NOT NULL,
    address TEXT NOT NULL,
    action TEXT NOT NULL
);
"""
ACCOUNTS: Final = FileKind(
    word="accounts file",
    application_id=0x54524B41,  # "TRKA"
    formats=(FORMAT_1,),
    error=ConfigError,
    damaged=ConfigError,
    remedy="put a copy of {path} in its place, or move it away, and a new administrator is made",
    pragmas=("secure_delete = ON", "foreign_keys = ON"),
)


class User(msgspec.Struct, frozen=True):
    """Somebody who may log in."""

    name: str
    role: Role
    streams: tuple[str, ...]
    added_at: str  # RFC 3339
    password_pending: bool  # the printed password was not replaced yet


class Token(msgspec.Struct, frozen=True):
    """What a program has in place of a login; the token itself is never shown again."""

    id: int
    name: str
    role: Role
    streams: tuple[str, ...]
    added_at: str
    ends_at: str


class Deed(msgspec.Struct, frozen=True):
    """What was done, by whom."""

    id: int
    at: str
    who: str
    address: str
    action: str


class Accounts:
    """The open file. Thread-safe.

    Args:
        path: made when it is missing.
        now: Unix time in seconds.
        hasher: of passwords, with as much work as its makers advise.

    Raises:
        ConfigError: it cannot be used, or is something else.
    """

    def __init__(
        self, path: str | Path, now: Callable[[], float] = time.time, hasher: PasswordHasher | None = None
    ) -> None:
        self.path = Path(path).expanduser()
        self._file = SqliteFile(self.path, ACCOUNTS, create=True)
        self._now = now
        self._hasher = hasher or PasswordHasher()
        self._counting = threading.Lock()
        self._hashing = threading.Semaphore(2)  # each takes 64 MiB for a while
        self._nobody = self._hasher.hash(secrets.token_urlsafe())  # so that unknown names take as long
        self._failures: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)
        self._unreadable: set[str] = set()  # users of whose stored passwords it was logged

    def first_password(self) -> str | None:
        """Make the administrator where there is no user yet, and return the password that is good for one login."""
        if self._file.rows("SELECT 1 FROM users LIMIT 1"):
            return None
        return self.add_user(FIRST_ADMIN, "admin", ())

    def add_user(self, name: str, role: Role, streams: Collection[str]) -> str:
        """Add a user and return the password that is good for one login.

        Raises:
            RequestError: 400 for a name that is not allowed, 409 where there is one of it.
        """
        _check_name(name)
        if self._file.rows("SELECT 1 FROM users WHERE name = ?", name):
            raise RequestError(409, f"there is a user {name!r} already")
        password = secrets.token_urlsafe(12)
        row = (name, role, _joined(streams), self._hash(password), 1, _moment(self._now()))
        with self._file.transaction() as db:
            db.execute("INSERT INTO users VALUES (?, ?, ?, ?, ?, ?)", row)
        return password

    def users(self) -> list[User]:
        """Return all users by name."""
        rows = self._file.rows("SELECT name, role, streams, added_at, once FROM users ORDER BY name")
        return [User(name, role, _listed(streams), at, bool(once)) for name, role, streams, at, once in rows]

    def remove_user(self, name: str) -> None:
        """Delete a user, whose sessions end.

        Raises:
            RequestError: 404 where there is none, 409 for the last administrator.
        """
        known = {user.name: user for user in self.users()}
        if name not in known:
            raise RequestError(404, f"there is no user {name!r}")
        if known[name].role == "admin" and sum(user.role == "admin" for user in known.values()) == 1:
            raise RequestError(409, f"{name!r} is the last administrator, and stays")
        with self._file.transaction() as db:
            db.execute("DELETE FROM users WHERE name = ?", (name,))

    def login(self, name: str, password: str, new: str | None, address: str) -> tuple[str, Who]:
        """Return a session's secret and whose it is.

        Args:
            name: of the user.
            password: theirs, or the printed one.
            new: their password from now on; a printed one must be replaced at its only login.
            address: from where it is tried.

        Raises:
            RequestError: 401 where the two do not fit, 409 where a new password is needed, 400 where that is not
                allowed, 429 after too many failures.
        """
        tried = (("user", name[:64]), ("from", address))
        self._count_failure(tried)  # before the password is looked at: many at once must not all get through
        rows = self._file.rows("SELECT name, role, streams, password, once FROM users WHERE name = ?", name)
        if not self._fits(name, rows[0][3] if rows else self._nobody, password) or not rows:
            raise RequestError(401, "user and password do not fit")
        for key in tried:
            self._failures.pop(key, None)
        ((name, role, streams, _, once),) = rows
        if once and new is None:
            raise RequestError(409, "this password is good for one login: choose one of your own, as new")
        if new is not None:
            self._set_password(name, new, password)
        secret = secrets.token_urlsafe(32)
        with self._file.transaction() as db:
            db.execute("DELETE FROM sessions WHERE until_s < ?", (self._now(),))
            db.execute("INSERT INTO sessions VALUES (?, ?, ?)", (_digest(secret), name, self._now() + SESSION_S))
        return secret, Who(name, role, _listed(streams), "cookie", _csrf(secret))

    def session(self, secret: str) -> Who | None:
        """Return whose session it is; None: it ended, or never was."""
        rows = self._file.rows(
            "SELECT name, role, streams FROM sessions JOIN users ON name = user WHERE hash = ? AND until_s > ?",
            _digest(secret),
            self._now(),
        )
        return Who(rows[0][0], rows[0][1], _listed(rows[0][2]), "cookie", _csrf(secret)) if rows else None

    def logout(self, secret: str) -> None:
        """End a session."""
        with self._file.transaction() as db:
            db.execute("DELETE FROM sessions WHERE hash = ?", (_digest(secret),))

    def add_token(self, name: str, role: Role, streams: Collection[str], days: float) -> tuple[int, str]:
        """Make a token and return its number and the token, which is not kept.

        Raises:
            RequestError: 400 where it would end at once, or after more than ten years.
        """
        if not 0.0 < days <= 3660.0:
            raise RequestError(400, f"days must be above 0 and at most 3660, got {days:g}")
        _check_name(name)
        token, now_s = f"tl_{secrets.token_urlsafe(32)}", self._now()
        row = (_digest(token), name, role, _joined(streams), _moment(now_s), now_s + days * 86_400.0)
        with self._file.transaction() as db:
            number = db.execute(
                "INSERT INTO tokens (hash, name, role, streams, added_at, until_s) VALUES (?, ?, ?, ?, ?, ?)", row
            ).lastrowid
        return int(number or 0), token

    def tokens(self) -> list[Token]:
        """Return all tokens, those that ended too, without what they are."""
        rows = self._file.rows("SELECT id, name, role, streams, added_at, until_s FROM tokens ORDER BY id")
        return [
            Token(number, name, role, _listed(streams), at, _moment(until_s))
            for number, name, role, streams, at, until_s in rows
        ]

    def remove_token(self, number: int) -> None:
        """Let a token give no right any more; RequestError 404 where there is none."""
        with self._file.transaction() as db:
            if db.execute("DELETE FROM tokens WHERE id = ?", (number,)).rowcount == 0:
                raise RequestError(404, f"there is no token {number}")

    def token(self, token: str) -> Who:
        """Return who sends a token.

        Raises:
            RequestError: 401 where it ended, was taken back, or never was.
        """
        rows = self._file.rows("SELECT name, role, streams, until_s FROM tokens WHERE hash = ?", _digest(token))
        if not rows:
            raise RequestError(401, "the token is not known here")
        ((name, role, streams, until_s),) = rows
        if until_s <= self._now():
            raise RequestError(401, f"the token ended at {_moment(until_s)}")
        return Who(f"token {name}", role, _listed(streams), "token")

    def record(self, who: str, address: str, action: str) -> None:
        """Keep that something was done."""
        now_s = self._now()
        with self._file.transaction() as db:
            db.execute("DELETE FROM audit WHERE at_s < ?", (now_s - AUDIT_DAYS * 86_400.0,))
            db.execute(
                "INSERT INTO audit (at_s, who, address, action) VALUES (?, ?, ?, ?)", (now_s, who, address, action)
            )

    def deeds(self, limit: int = 200, before: int | None = None) -> list[Deed]:
        """Return what was done, the latest first, ``before`` a number."""
        rows: list[Any] = self._file.rows(
            "SELECT id, at_s, who, address, action FROM audit WHERE id < ? ORDER BY id DESC LIMIT ?",
            2**62 if before is None else before,
            limit,
        )
        return [Deed(number, _moment(at_s), *rest) for number, at_s, *rest in rows]

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._file.close()

    def _set_password(self, name: str, new: str, old: str) -> None:
        if not MIN_PASSWORD <= len(new) <= MAX_PASSWORD or new == old:
            raise RequestError(
                400, f"new must have {MIN_PASSWORD} to {MAX_PASSWORD} characters and differ from password"
            )
        with self._file.transaction() as db:
            db.execute("UPDATE users SET password = ?, once = 0 WHERE name = ?", (self._hash(new), name))
            db.execute("DELETE FROM sessions WHERE user = ?", (name,))

    def _hash(self, password: str) -> str:
        with self._hashing:
            return self._hasher.hash(password)

    def _fits(self, name: str, stored: str, password: str) -> bool:
        if len(password) > MAX_PASSWORD:
            return False
        try:
            with self._hashing:
                return self._hasher.verify(stored, password)
        except VerifyMismatchError:
            return False
        except (Argon2Error, InvalidHashError, UnicodeEncodeError) as error:
            if stored != self._nobody:
                self._say_unreadable(name, error)
            with suppress(Argon2Error), self._hashing:  # as long as a wrong password takes
                self._hasher.verify(self._nobody, password)
            return False

    def _say_unreadable(self, name: str, error: Exception) -> None:
        """Log, once for each user, that nobody can log in as one; whoever tries is told what any other is."""
        if name in self._unreadable:
            return
        self._unreadable.add(name)
        structlog.get_logger().error(
            "stored password cannot be checked",
            user=name,
            path=str(self.path),
            cause=str(error) if isinstance(error, Argon2Error) else "it is no hash of Argon2",  # others quote it
            remedy="put a copy of the file in its place, or have an administrator remove the user and add them again",
        )

    def _count_failure(self, tried: Collection[tuple[str, str]]) -> None:
        """Take a login for failed until it is not; RequestError 429 where too many did."""
        now_s = self._now()
        with self._counting:
            for key in tried:
                failures = self._failures[key]
                while failures and failures[0] < now_s - FAILURES_S:
                    failures.popleft()
                if len(failures) >= FAILURES[key[0]]:
                    wait_s = failures[0] + FAILURES_S - now_s
                    raise RequestError(429, f"too many logins failed: try again in {wait_s:.0f} s")
            for key in tried:
                self._failures[key].append(now_s)
            while len(self._failures) > REMEMBERED:
                self._failures.pop(next(iter(self._failures)))


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= 64 or not name.isprintable() or "/" in name or name != name.strip():
        raise RequestError(
            400, f"name must have 1 to 64 printable characters, no slash, no space at its ends, got {name[:80]!r}"
        )


def _moment(unix_s: float) -> str:
    return timestamp(round(unix_s * 1e9))


def _joined(streams: Collection[str]) -> str:
    """How they are stored; RequestError 400 for what is no name of a stream."""
    for name in streams:
        if not name or not name.isprintable():
            raise RequestError(400, f"streams must be names of streams, got {name[:80]!r}")
    return "\n".join(streams)


def _listed(streams: str) -> tuple[str, ...]:
    return tuple(streams.split("\n")) if streams else ()


def _digest(secret: str) -> bytes:
    """What is stored of a random secret: it has 256 bits, so that a plain hash cannot be guessed back."""
    return hashlib.sha256(secret.encode()).digest()


def _csrf(secret: str) -> str:
    return hmac.new(secret.encode(), b"csrf", hashlib.sha256).hexdigest()
