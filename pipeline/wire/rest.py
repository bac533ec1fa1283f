"""The page's API from Python, on the standard library's HTTP: streams of a run that goes on, and what happened."""

import http.client
import ssl
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from engines.errors import ConfigError, MessageError, RequestError

TIMEOUT_S: Final = 200.0  # a run answers once a change is done
PAGE: Final = 50  # events
MAX_ANSWER: Final = 100_000_000  # bytes

Answer = TypeVar("Answer")


class LatencyReport(msgspec.Struct, frozen=True):
    """Of the last seconds' frames, milliseconds from capture to message; None: there were none."""

    p50: float | None = None
    p99: float | None = None


class StreamReport(msgspec.Struct, frozen=True, kw_only=True):
    """How a stream is, as ``GET /api/streams`` tells."""

    name: str
    state: Literal["up", "down", "ended", "unknown"]
    cause: str
    size: tuple[int, int] | None = None  # width and height, pixels
    fps: float = 0.0
    latency_ms: LatencyReport = LatencyReport()
    captured: int = 0
    published: int = 0
    dropped: dict[str, int] = {}  # by cause
    settings: dict[str, Any] | None = None  # of one stream: what is not the default, without secrets
    switches: dict[str, bool] = {}  # of one stream: detect and record


class StreamChange(msgspec.Struct, frozen=True):
    """What became of a change of a stream."""

    name: str
    taken_over: bool  # by the run
    written: bool  # to its configuration file; else it is gone with the run


class SettingsChange(msgspec.Struct, frozen=True):
    """What became of a change of thresholds or rates."""

    taken_over: bool  # by the run
    written: bool  # to its configuration file; else it is gone with the run


class ReloadReport(msgspec.Struct, frozen=True):
    """What was different in a configuration that was read again: names of streams, keys, and what needs a restart."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


class EventReport(msgspec.Struct, frozen=True, kw_only=True):
    """An event of the store; ``body`` is its message, without its picture."""

    id: int
    at: str
    stream: str
    event: str
    kind: str
    track: int | None = None
    label: str | None = None
    person: str | None = None
    place: str | None = None
    score: float | None = None
    has_snapshot: bool = False
    clip: bool = False
    body: dict[str, Any] = {}


class EventPage(msgspec.Struct, frozen=True):
    """Events, the latest first, and the cursor of those that follow; None: there are none."""

    events: tuple[EventReport, ...]
    next: str | None = None


class RestClient:
    """Asks a page's server. One request at a time; not thread-safe.

    Args:
        url: of the server, ``http://127.0.0.1:8080``.
        token: that a program has (docs/page.md); None on the server's own host, where it needs no login.
        ca_file: certificate of the server or of who signed it; None: those that the system trusts.
        timeout_s: for an answer.

    Raises:
        ConfigError: the URL is none, or the file cannot be used.

    Example::

        with RestClient("http://127.0.0.1:8080") as client:
            client.add("yard", "rtsp://camera.local/yard", loop=False)
            print([stream.state for stream in client.streams()])
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        token: str | None = None,
        ca_file: str | Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
            raise ConfigError(f"url is {url!r}, but must be http://HOST:PORT or https://HOST:PORT")
        self._token, self._csrf = token, ""
        if parts.scheme == "http":
            self._connection = http.client.HTTPConnection(parts.netloc, timeout=timeout_s)
        else:
            try:
                context = ssl.create_default_context(cafile=ca_file)
            except OSError as error:
                raise ConfigError(f"ca_file is {str(ca_file)!r}, which cannot be used: {error}") from error
            self._connection = http.client.HTTPSConnection(parts.netloc, timeout=timeout_s, context=context)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> "RestClient":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # Each of these raises RequestError with the server's status and sentence where it refuses, and with 503 where it
    # does not answer; MessageError where what it answers follows no form.

    def is_ready(self) -> bool:
        """Return whether every stream is up, or was told to be down or over."""
        status, _ = self._send("GET", "/readyz", None)
        return status == http.HTTPStatus.OK

    def streams(self) -> tuple[StreamReport, ...]:
        """Return all streams that may be seen."""
        return self._ask(tuple[StreamReport, ...], "GET", "/api/streams")

    def stream(self, name: str) -> StreamReport:
        """Return one stream with its settings and switches."""
        return self._ask(StreamReport, "GET", f"/api/streams/{quote(name, '')}")

    def add(self, name: str, source: str, **keys: Any) -> StreamChange:
        """Capture one stream more; ``keys`` as in ``[[streams]]`` of a configuration."""
        return self._ask(StreamChange, "POST", "/api/streams", {"name": name, "source": source, **keys})

    def change(self, name: str, **keys: Any) -> StreamChange:
        """Capture a stream by other values of some keys; None: their defaults."""
        return self._ask(StreamChange, "PATCH", f"/api/streams/{quote(name, '')}", keys)

    def remove(self, name: str) -> StreamChange:
        """Capture a stream no longer."""
        return self._ask(StreamChange, "DELETE", f"/api/streams/{quote(name, '')}")

    def switch(self, name: str, *, detect: bool | None = None, record: bool | None = None) -> dict[str, bool]:
        """Switch detection or recording, None: leave it; return how they are then."""
        wanted = {"detect": detect, "record": record}
        return self._ask(dict[str, bool], "PUT", f"/api/streams/{quote(name, '')}/switches", wanted)

    def settings(self) -> dict[str, Any]:
        """Return what may change without a restart, by key, such as ``inference.fps``; None: the model's own."""
        return self._ask(dict[str, Any], "GET", "/api/settings")

    def tune(self, keys: Mapping[str, Any]) -> SettingsChange:
        """Go on by other values of some of those keys; None: their defaults."""
        return self._ask(SettingsChange, "PATCH", "/api/settings", dict(keys))

    def reload(self) -> ReloadReport:
        """Have the run read its configuration again."""
        return self._ask(ReloadReport, "POST", "/api/reload")

    def events(self, *, limit: int = PAGE, cursor: str | None = None, **wanted: str | int | float) -> EventPage:
        """Return a page of events: ``wanted`` as the API has it, such as ``stream="door"``, ``label="person"``."""
        return self._page(limit, cursor, wanted)

    def all_events(self, **wanted: str | int | float) -> Iterator[EventReport]:
        """Yield every event, page by page, the latest first."""
        cursor = None
        while True:
            page = self._page(PAGE, cursor, wanted)
            yield from page.events
            if (cursor := page.next) is None:
                return

    def _page(self, limit: int, cursor: str | None, wanted: Mapping[str, str | int | float]) -> EventPage:
        query = {**wanted, "limit": limit} | ({} if cursor is None else {"cursor": cursor})
        return self._ask(EventPage, "GET", f"/api/events?{urlencode(query)}")

    def _ask(self, form: type[Answer], method: str, path: str, body: object = None) -> Answer:
        if method != "GET" and self._token is None and not self._csrf:
            self._csrf = self._ask(_Me, "GET", "/api/me").csrf
        status, content = self._send(method, path, body)
        try:
            if status >= http.HTTPStatus.BAD_REQUEST:
                raise RequestError(status, msgspec.json.decode(content, type=_Refusal).error)
            return msgspec.json.decode(content, type=form)
        except msgspec.MsgspecError as error:
            raise MessageError(f"{method} {path} was answered by {status}, which follows no form: {error}") from error

    def _send(self, method: str, path: str, body: object) -> tuple[int, bytes]:
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        if self._csrf:
            headers["X-CSRF-Token"] = self._csrf
        content = None
        if body is not None:
            content, headers["Content-Type"] = msgspec.json.encode(body), "application/json"
        try:
            self._connection.request(method, path, content, headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read(MAX_ANSWER)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()  # the next request makes another
            where = f"{self._connection.host}:{self._connection.port}"
            why = str(error) or type(error).__name__
            raise RequestError(503, f"the server at {where} does not answer: {why}") from error


class _Me(msgspec.Struct):
    csrf: str


class _Refusal(msgspec.Struct):
    error: str
