"""The server's process: from settings to a socket that is served."""

import asyncio
import ctypes
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog
import uvicorn

from pipeline.service.accounts import Accounts
from pipeline.service.auth import Hosts
from pipeline.service.web.app import make_app
from pipeline.service.web.certificate import fingerprint
from pipeline.service.web.hub import Hub
from pipeline.service.web.place import certificate_of, listening, split_address
from pipeline.service.web.site import Places, Site
from pipeline.settings.schema import StreamSettings, WebSettings
from pipeline.wire.curve import is_loopback
from pipeline.wire.links import SnapshotLinks

END_S: Final = 3.0  # that open requests have when the server is to end
LOOK_S: Final = 1.0  # how often it is looked whether the run is still there
M_ARENA_MAX: Final = -8  # of glibc's malloc.h

log = structlog.get_logger()


def serve(
    settings: WebSettings,
    results: str,
    places: Places,
    streams: Iterable[StreamSettings] = (),
    server_key: str | None = None,
    examine: Callable[[], Any] = dict,
    started: Callable[[str, str | None], None] = lambda address, password: None,
) -> None:
    """Serve the page until SIGINT or SIGTERM, or until the run that started it is gone.

    Args:
        settings: where, and how.
        results: address of the run's results socket.
        places: where store, gallery and configuration lie.
        streams: that are known to be there.
        server_key: the run's public key file, where it uses keys.
        examine: looks at the machine, in some seconds.
        started: called with the page's address, and the administrator's password where it was made now.

    Raises:
        ConfigError: something of it cannot be used.
    """
    share_one_heap()
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # it tells of each viewer who leaves while something is sent
    host, port = split_address(settings.address)
    loopback = is_loopback(host)
    login = not loopback or bool(settings.hosts)
    tls = certificate_of(settings, host)
    with listening(host, port, settings.address) as opened:
        accounts = Accounts(settings.accounts)
        hub = Hub(results, streams, server_key)
        site = Site(
            hub,
            accounts,
            places,
            Hosts(loopback, settings.hosts),
            login=login,
            secure=tls is not None or bool(settings.hosts),
            local_csrf=secrets.token_hex(32),
            examine=examine,
            links=None if not settings.link_secret else SnapshotLinks(str(settings.link_secret)),
        )
        password = accounts.first_password() if login else None
        server = uvicorn.Server(_uvicorn(site, tls))
        if places.run is not None:
            threading.Thread(target=_end_with, args=(places.run, server), daemon=True).start()
        shown = _shown(host, opened.getsockname()[1], tls is not None)
        started(shown, password)
        if tls is not None:
            log.info("certificate", sha256=fingerprint(tls[0]))
        asyncio.run(server.serve(sockets=[opened]))


def share_one_heap() -> None:
    """Let all threads of this process allocate from one heap, so that what one has freed serves another.

    Requests are answered by threads that come and go. With a heap for each, as glibc has it, the free parts of all of
    them grow for hours. Where the C library is another one, nothing is done.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def _uvicorn(site: Site, tls: tuple[Path, Path] | None) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(site),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="websockets-sansio",
        ws_max_size=2**16,  # nothing longer is said to it
        ws_per_message_deflate=False,  # video is compressed already, and messages are small
        limit_concurrency=512,
        timeout_graceful_shutdown=round(END_S),
        ssl_certfile=None if tls is None else str(tls[0]),
        ssl_keyfile=None if tls is None else str(tls[1]),
    )


def _shown(host: str, port: int, tls: bool) -> str:
    """The address that a browser takes."""
    name = socket.gethostname() if host in ("0.0.0.0", "[::]") else host
    return f"http{'s' if tls else ''}://{name}:{port}"


def _end_with(run: int, server: uvicorn.Server) -> None:
    """End the server once the run that started it is gone."""
    while os.getppid() == run:
        time.sleep(LOOK_S)
    server.should_exit = True
