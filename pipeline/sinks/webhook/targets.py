"""Which servers may be reached: a public address, or one that is named.

A name is resolved once for each try, all its addresses are looked at, and the connection is made to one of these: a
name server that answers otherwise the next time (DNS rebinding) changes nothing.
"""

import ipaddress
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from engines.errors import ConfigError, MessageError, one_line
from pipeline.settings.redact import redact

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[..., Sequence[tuple[Any, ...]]]
NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
PORTS: Final = {"http": 80, "https": 443}


class Target:
    """Where requests go.

    Args:
        url: http:// or https://.
        allow: names, addresses and networks that may be reached though they are not public.
        resolve: looks addresses up, as :func:`socket.getaddrinfo` does.

    Raises:
        ConfigError: the URL is none, or is an address that may not be reached.
    """

    def __init__(self, url: str, allow: tuple[str, ...], resolve: Resolve = socket.getaddrinfo) -> None:
        try:
            parts = urlsplit(str(url))
            port = parts.port
        except ValueError:
            raise ConfigError(f"url is {redact(url)!r}, but must be http://HOST/... or https://HOST/...") from None
        if parts.scheme not in PORTS or not parts.hostname or parts.username is not None:
            raise ConfigError(
                f"url is {redact(url)!r}, but must be http://HOST/... or https://HOST/..., without user and password"
            )
        self.scheme, self.host, self.port = parts.scheme, parts.hostname, port or PORTS[parts.scheme]
        self.netloc = parts.netloc
        self.path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._resolve = resolve
        self._names = {name.lower() for name in allow if _network(name) is None}
        self._networks = [network for name in allow if (network := _network(name)) is not None]
        address = _address(self.host)
        if address is not None and (why := self._refusal(address)):
            raise ConfigError(f"url is {redact(url)!r}, {why}")

    def addresses(self) -> list[str]:
        """Return the addresses that may be connected to now, in the order they are to be tried.

        Raises:
            MessageError: one of them may not be reached: whoever mixes those in has something in mind.
            OSError: the name is not known.
        """
        rows = self._resolve(self.host, self.port, type=socket.SOCK_STREAM)
        found = list(dict.fromkeys(str(row[4][0]) for row in rows))
        for text in found:
            address = _address(text)
            why = "which is no address" if address is None else self._refusal(address)
            if why:
                raise MessageError(f"{self.host} is {text}, {why}")
        if not found:
            raise OSError(f"{self.host} has no address")
        return found

    def _refusal(self, address: Address) -> str | None:
        """Why an address may not be reached; None: it may."""
        if self.host.lower() in self._names or any(address in network for network in self._networks):
            return None
        meant = _meant(address)
        if meant.is_global and not meant.is_multicast:
            return None
        return "which is not a public address: name its host, address or network in allow to reach it"


def url_of(target: Target, address: str) -> str:
    """Return the URL of one address of a target."""
    host = f"[{address}]" if ":" in address else address
    return f"{target.scheme}://{host}:{target.port}{target.path}"


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to, if it does."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else address)


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        if "/" in text:
            raise ConfigError(f"allow has {text!r}, which is no network: {one_line(error)}") from None
        return None
