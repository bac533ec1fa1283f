"""Where the page is served: its address, certificate and accounts."""

import socket
from pathlib import Path

import msgspec

from engines.errors import ConfigError
from pipeline.service.accounts import Accounts
from pipeline.service.web.certificate import check_certificate, own_certificate
from pipeline.settings.schema import HostPort, WebSettings
from pipeline.wire.curve import is_loopback


def check_place(settings: WebSettings) -> None:
    """Raise ConfigError where the page cannot be served, so that a run is refused before it begins."""
    host, port = split_address(settings.address)
    certificate_of(settings, host)
    listening(host, port, settings.address).close()
    Accounts(settings.accounts).close()


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; ConfigError where it is none."""
    try:
        msgspec.convert(address, HostPort)
    except msgspec.ValidationError:
        port = -1
    else:
        port = int(address.rpartition(":")[2])
    if not 0 <= port <= 65535:
        raise ConfigError(f"web.address is {address!r}, but must be HOST:PORT, such as 127.0.0.1:8080 or 0.0.0.0:8443")
    return address.rpartition(":")[0], port


def certificate_of(settings: WebSettings, host: str) -> tuple[Path, Path] | None:
    """Return the files of certificate and key, made where they are missing; None: the page is served without TLS."""
    if is_loopback(host) and settings.certificate is None:
        return None
    if (settings.certificate is None) != (settings.key is None):
        raise ConfigError("web.certificate and web.key must both be there, or both be left out")
    if settings.certificate is None or settings.key is None:
        folder = Path(settings.accounts).expanduser().parent
        return own_certificate(folder, (*settings.hosts, *([] if host in ("0.0.0.0", "[::]") else [host])))
    files = Path(settings.certificate).expanduser(), Path(settings.key).expanduser()
    check_certificate(*files)
    return files


def listening(host: str, port: int, address: str) -> socket.socket:
    """Return a socket bound to ``host`` and ``port``; ConfigError, which tells ``address``, where it cannot be."""
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        place = socket.getaddrinfo(host.strip("[]"), port, family, socket.SOCK_STREAM)[0][4]
        opened = socket.socket(family, socket.SOCK_STREAM)
        try:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            opened.bind(place)
        except BaseException:
            opened.close()
            raise
    except OSError as error:
        raise ConfigError(f"web.address is {address!r}, which cannot be listened on: {error.strerror}") from error
    return opened
