"""What the routes of the page's server work with."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from litestar.connection import ASGIConnection

from engines.errors import GalleryError, RequestError, StoreError
from pipeline.gallery import Gallery
from pipeline.service.accounts import Accounts
from pipeline.service.auth import Hosts, Who
from pipeline.service.web.hub import Hub
from pipeline.settings.schema import ModelSettings
from pipeline.store import EventStore

COOKIE: Final = "trunkline"
LOCAL: Final = "local"  # the name of whoever needs no login


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie that the page shows.

    Attributes:
        store: folder of the event store; None: there is none.
        gallery: its file; None: there is none.
        config: the configuration file of the run; None: it has none.
        run: number of the process that reads the configuration again at SIGHUP; None: none is known.
        model: that the run uses.
    """

    store: Path | None = None
    gallery: Path | None = None
    config: Path | None = None
    run: int | None = None
    model: ModelSettings = ModelSettings()


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
    _store: EventStore | None = None
    _gallery: Gallery | None = None
    _opening: threading.Lock = field(default_factory=threading.Lock)

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

    def gallery(self) -> Gallery:
        """Return the gallery; RequestError 404 where there is none."""
        if self.places.gallery is None:
            raise RequestError(404, "no gallery is known: say identity.gallery in the configuration, or --gallery")
        with self._opening:
            if self._gallery is None:
                try:
                    self._gallery = Gallery(self.places.gallery)
                except GalleryError as error:
                    raise RequestError(404, str(error)) from error
            return self._gallery

    def close(self) -> None:
        """Close all files."""
        for opened in (self._store, self._gallery, self.accounts):
            if opened is not None:
                opened.close()
