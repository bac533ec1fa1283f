"""The receiver's end of frames between hosts: pictures of one stream from a socket that listens."""

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import structlog
import zmq

from engines.errors import ConfigError, MessageError, SourceError
from pipeline.frames.jpeg import JpegDecoder
from pipeline.settings.redact import redact, redact_in
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Decoded, Lost, yuv_bytes
from pipeline.wire.allowed_keys import AllowedKeys, KeyCheck
from pipeline.wire.connection_limit import ConnectionLimit
from pipeline.wire.curve import KEY_ERRORS, is_loopback, listen_with_key, parse_tcp
from pipeline.wire.remote import MAX_PIXELS, Arrivals, LossHeader, unpack

SCHEME: Final = "zmq+"
PICTURES_WAITING: Final = 2  # the reader takes them as they come; with 1 and a list of clients ZeroMQ 4.3 hangs
BUFFER_BYTES: Final = 2**18  # of the kernel: so much of what waits nobody can see
STOP_NOTICED_S: Final = 0.1  # after so long at the most
HEARTBEAT_S: Final = 2.0  # a sender that is busy with a large picture still hears that this end lives ...
DEAD_S: Final = 30.0  # ... and one that says nothing for so long is disconnected

log = structlog.get_logger()


class NetworkSource:
    """Frames that another host sends to a port of this one."""

    live: ClassVar[bool] = True

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        """Refuse a port that is none, and one that other hosts can reach without keys; see docs/hosts.md."""
        check_receiving(self._settings)
        check_secret(self._settings)

    def read(self, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
        """Pictures as they arrive; see :func:`receive`."""
        return receive(self._settings, stop)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of the largest."""
        return yuv_bytes(*largest)


def is_remote(source: str) -> bool:
    """Whether a source is a port of this host to which another one sends frames."""
    return source.startswith(SCHEME)


def check_receiving(settings: StreamSettings) -> None:
    """Refuse a source ``zmq+tcp://HOST:PORT`` that is none, and one that other hosts can reach without keys.

    Raises:
        ConfigError: with the key, the value and what is allowed.
    """
    shown = f"stream {settings.name!r}: source is {redact(settings.source)!r}"
    tcp = parse_tcp(_address(settings))
    if tcp is None or not tcp[1].isdecimal() or int(tcp[1]) == 0:
        raise ConfigError(f"{shown}, but must be zmq+tcp://HOST:PORT with a port of its own")
    if settings.clients is not None and settings.curve_secret_file is None:
        raise ConfigError(f"{shown}: clients is there, but needs curve_secret_file: without it nobody has a key")
    if not (is_loopback(tcp[0]) or (settings.curve_secret_file and settings.clients) or settings.insecure):
        raise ConfigError(
            f"{shown}, which other hosts can reach: it needs curve_secret_file and clients, a folder with the public "
            "keys of who may send, or insecure = true to take pictures from everybody"
        )


def check_secret(settings: StreamSettings) -> None:
    """Refuse a key file, or a folder of clients, that cannot be used, with a ConfigError."""
    if settings.clients is not None:
        AllowedKeys(settings.clients)
    if settings.curve_secret_file is None:
        return
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        try:
            listen_with_key(socket, settings.curve_secret_file)
        except KEY_ERRORS as error:
            raise ConfigError(
                f"stream {settings.name!r}: curve_secret_file is {settings.curve_secret_file!r}, "
                f"which cannot be used: {error}"
            ) from error


def receive(settings: StreamSettings, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
    """Pictures as they arrive, and :class:`Lost` while none do, until ``stop`` is set.

    A message that is not allowed is passed over; the first of a row is logged.

    Raises:
        SourceError: the port cannot be listened at.
    """
    decoder, arrivals, refusals = JpegDecoder(), Arrivals(), Refusals(settings.name)
    silence = f"nothing heard for {settings.timeout_s:g} s"
    with _listening(settings) as socket:
        heard_s, why = time.monotonic(), silence
        while not stop.is_set():
            left_s = heard_s + settings.timeout_s - time.monotonic()
            if left_s <= 0.0:
                arrivals.silent()
                yield Lost(refusals.end() or why)
                heard_s = time.monotonic()
            elif socket.poll(1 + round(1000 * min(left_s, STOP_NOTICED_S))):
                parts = [part.buffer for part in socket.recv_multipart(copy=False)]
                try:
                    said = _understand(parts, settings.name, decoder, arrivals)
                except MessageError as error:
                    refusals.add(str(error))
                    continue
                refusals.end()
                why = said.cause if isinstance(said, Lost) else silence  # who said that it is over need not say more
                yield said
                heard_s = time.monotonic()  # after the yield: a slow reader is not the source's fault


def _understand(parts: list[memoryview], stream: str, decoder: JpegDecoder, arrivals: Arrivals) -> Decoded | Lost:
    said = unpack(parts, stream, decoder)
    if isinstance(said, LossHeader):
        arrivals.check(said)
        # It goes to logs and messages.
        cause = "".join(character if character.isprintable() else " " for character in said.cause)
        return Lost(f"the sender says: {cause}")
    header, picture = said
    origin = arrivals.take(header, time.monotonic())
    return Decoded(picture, None, f"{header.encoding} from another host", origin)


class Refusals:
    """Messages in a row that were refused."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._count = 0
        self._last = ""

    def add(self, cause: str) -> None:
        """One more was refused; only the first is logged, or whoever sends could fill the disk."""
        if not self._count:
            log.warning("message refused", stream=self._stream, cause=cause)
        self._count, self._last = self._count + 1, cause

    def end(self) -> str:
        """The row is over; what there was to it, or nothing."""
        count, self._count = self._count, 0
        if not count:
            return ""
        log.warning("messages refused", stream=self._stream, count=count, cause=self._last)
        return f"all that is heard is refused: {self._last}"


@contextmanager
def _listening(settings: StreamSettings) -> "Iterator[zmq.Socket[bytes]]":
    # A context, and so a thread for the copy from the network, of its own: no stream delays another. And its end waits
    # until the port is free again.
    with (
        zmq.Context() as context,
        KeyCheck(context, settings.clients, settings.curve_secret_file),
        context.socket(zmq.PULL) as socket,
    ):
        socket.linger = 0
        socket.rcvhwm, socket.rcvbuf, socket.maxmsgsize = PICTURES_WAITING, BUFFER_BYTES, MAX_PIXELS
        socket.heartbeat_ivl, socket.heartbeat_timeout = round(1000 * HEARTBEAT_S), round(1000 * DEAD_S)
        socket.ipv6 = "[" in settings.source
        limit = ConnectionLimit(socket)
        try:
            _listen(socket, settings)
            yield socket
        finally:  # before the context ends, which closes what another thread still reads, and aborts the process
            socket.close()
            limit.wait()


def _listen(socket: "zmq.Socket[bytes]", settings: StreamSettings) -> None:
    try:
        if settings.curve_secret_file is not None:
            listen_with_key(socket, settings.curve_secret_file)
        socket.bind(_address(settings))
    except KEY_ERRORS as error:
        cause = redact_in(str(error), settings.source, _address(settings))
        raise SourceError(f"cannot listen: {cause}") from None


def _address(settings: StreamSettings) -> str:
    return settings.source.removeprefix(SCHEME)
