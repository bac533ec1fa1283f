"""What the routes of the page's server work with."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from litestar.connection import ASGIConnection

from engines.errors import ConfigError, RequestError, StoreError
from pipeline.gallery import Gallery
from pipeline.service.accounts import Accounts
from pipeline.service.auth import Hosts, Who
from pipeline.service.web.faces import FaceReading
from pipeline.service.web.hub import Hub
from pipeline.service.web.video_kinds import VideoKinds
from pipeline.settings.load import load
from pipeline.settings.schema import ModelSettings, StreamSettings
from pipeline.store import EventStore
from pipeline.wire.links import SnapshotLinks

COOKIE: Final = "trunkline"
EXAMINE_S: Final = 0.2  # that an answer waits for what is being looked at
LOCAL: Final = "local"  # the name of whoever needs no login

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie that the page shows.

    Attributes:
        store: folder of the event store; None: there is none.
        gallery: its file; None: there is none.
        config: the configuration file of the run; None: it has none.
        run: number of the process that the server ends with; None: it goes on by itself.
        control: socket by which the run is changed; None: it cannot be.
        model: that the run uses.
        packets: address at which packets of the streams are read; None: there are none.
        log: file of the run's log lines; None: none is known.
    """

    store: Path | None = None
    gallery: Path | None = None
    config: Path | None = None
    run: int | None = None
    control: Path | None = None
    model: ModelSettings = ModelSettings()
    packets: str | None = None
    log: Path | None = None


@dataclass(slots=True)
class Site:
    """Everything behind the routes.

    Args:
        hub: what the run says.
        accounts: users and tokens.
        places: where the rest lies.
        hosts: by which names it may be reached.
        login: whether a login is needed.
        secure: whether cookies are for TLS alone.
        local_csrf: what changes must carry where no login is needed.
        examine: looks at the machine, in some seconds.
    """

    hub: Hub
    accounts: Accounts
    places: Places
    hosts: Hosts
    login: bool
    secure: bool
    local_csrf: str
    examine: Callable[[], Any] = dict
    links: SnapshotLinks | None = None  # whose links to pictures are served; None: none are
    faces: FaceReading = field(init=False)
    kinds: VideoKinds = field(init=False)
    _machine: Any = None
    _examining: threading.Thread | None = None
    _changed_ns: int = 0  # when the configuration that was read was written
    _timers: list[tuple[threading.Timer, Callable[[], object]]] = field(default_factory=list)
    _store: EventStore | None = None
    _gallery: Gallery | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.faces = FaceReading(self.places.model)
        self.kinds = VideoKinds(self.places.packets)

    def who(self, connection: ASGIConnection[Any, Any, Any, Any]) -> Who | None:
        """Return who is at the other end; None: nobody in particular; RequestError 401 for a token that is not good."""
        authorization = connection.headers.get("authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            if scheme.lower() != "bearer":
                raise RequestError(401, "the Authorization header must be Bearer TOKEN")
            return self.accounts.token(token.strip())
        if not self.login:
            return Who(LOCAL, "admin", (), "loopback", self.local_csrf)
        secret = connection.cookies.get(COOKIE)
        return None if secret is None else self.accounts.session(secret)

    @property
    def folders(self) -> list[Path]:
        """Return the folders that its files lie in, the longest paths first."""
        files = (self.places.gallery, self.places.config, Path(self.places.model.path), self.accounts.path)
        folders = {each.parent for each in files if each is not None} | {self.places.store or Path()}
        return sorted(folders - {Path()}, key=lambda folder: -len(str(folder)))

    def store(self) -> EventStore:
        """Return the event store, which the run may have made only now; RequestError 404 where there is none."""
        if self.places.store is None:
            raise RequestError(404, 'no event store is known: add [[sinks]] with kind = "store", or give --store')
        with self._opening:
            if self._store is None:
                try:
                    self._store = EventStore(self.places.store)
                except StoreError as error:
                    raise RequestError(404, str(error)) from error
            return self._store

    def gallery(self, create: bool = False) -> Gallery:
        """Return the gallery, made where ``create`` is given; RequestError 404 where there is none."""
        if self.places.gallery is None:
            raise RequestError(404, "no gallery is known: say identity.gallery in the configuration, or --gallery")
        with self._opening:
            if self._gallery is None:
                if not create and not self.places.gallery.is_file():
                    raise RequestError(
                        404, f"gallery {self.places.gallery}: there is no such file: nobody is known yet"
                    )
                self._gallery = Gallery(self.places.gallery, self.faces.model().fingerprint if create else None)
            return self._gallery

    def machine(self) -> Any:
        """Return what is known of the machine; None while it is looked at, once, which takes some seconds."""
        with self._opening:
            if self._examining is None:
                self._examining = threading.Thread(target=self._examine, name="examine", daemon=True)
                self._examining.start()
        self._examining.join(EXAMINE_S)
        return self._machine

    def _examine(self) -> None:
        self._machine = self.examine()

    def settings(self) -> dict[str, StreamSettings]:
        """Return the streams of the configuration by name, as it is now; as it was where it cannot be read."""
        if self.places.config is None:
            return self.hub.settings
        with self._opening:
            try:
                changed_ns = self.places.config.stat().st_mtime_ns
                if changed_ns != self._changed_ns:
                    self.hub.know(load(self.places.config).streams)
                    self._changed_ns = changed_ns
            except (OSError, ConfigError) as error:
                log.warning("configuration not shown", error=str(error))
        return self.hub.settings

    def later(self, delay_s: float, action: Callable[[], object]) -> None:
        """Do something in a thread after a while, at the end of the server at the latest."""
        timer = threading.Timer(delay_s, action)
        timer.daemon = True
        with self._opening:
            self._timers = [(each, what) for each, what in self._timers if each.is_alive()] + [(timer, action)]
        timer.start()

    def close(self) -> None:
        """Close all files."""
        for timer, action in self._timers:
            if timer.is_alive():
                timer.cancel()
                action()
        self.faces.close()
        for opened in (self._store, self._gallery, self.accounts):
            if opened is not None:
                opened.close()
