"""The subscriber's side of the wire: typed messages from a running Trunkline.

>>> for message in Subscriber("tcp://127.0.0.1:5555", streams=["door"]):  # doctest: +SKIP
...     if isinstance(message, FrameMessage):
...         print([face.identity.name for face in message.faces if face.identity])
"""

import errno
import math
import time
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import Any, Self, get_args

import zmq

from engines.errors import ConfigError, MessageError
from pipeline.settings.redact import redact, redact_in
from pipeline.wire.curve import KEY_ERRORS, connect_with_key
from pipeline.wire.messages import FrameMessage, Message, MessageType, decode

LONGEST_MESSAGE = 2**24  # bytes; one with a thousand objects has a hundredth of it
HEARTBEAT_MS = 2000  # a publisher that is silent on the wire for twice as long is connected to again


class Gaps:
    """Messages of one stream that were lost on the way.

    ``seq - dropped`` is a message's number among the stream's frame messages, whatever the pipeline itself gave up.
    """

    def __init__(self) -> None:
        self.missed = 0
        self._settled = 0  # missed before the publisher last began again
        self._first = 0
        self._received = 0
        self._seq = -1

    def take(self, seq: int, dropped: int) -> None:
        """A frame message came, with the sum of its ``dropped``."""
        number = seq - dropped
        if self._received == 0 or seq <= self._seq:  # the first one, or the publisher began again
            self._settled, self._first, self._received = self.missed, number, 0
        self._seq = seq
        self._received += 1
        self.missed = self._settled + max(0, number - self._first + 1 - self._received)


class Subscription:
    """A socket that is connected to a publisher, and what is known of the messages that come from it.

    Args:
        socket: a SUB socket, which is closed where this raises.
        address: as of :class:`Subscriber`, like all that follows.
        streams: names of the streams to hear of; None: all.
        types: ``frame``, ``event``, ``health``; None: all.
        server_key: the publisher's public key file, where it uses keys.
        client_key: this subscriber's own key file, where the publisher has a list of who may subscribe.

    Raises:
        ConfigError: the address or the key file cannot be used.
    """

    def __init__(
        self,
        socket: zmq.Socket[Any],
        address: str,
        streams: Collection[str] | None,
        types: Collection[MessageType] | None,
        server_key: str | Path | None,
        client_key: str | Path | None,
    ) -> None:
        self._gaps: defaultdict[str, Gaps] = defaultdict(Gaps)
        kinds = get_args(MessageType) if types is None else types
        self._topics = None if streams is None else {f"{kind}/{name}".encode() for kind in kinds for name in streams}
        try:
            # Before connecting, so that the publisher is told all of it at once.
            for prefix in self._topics if self._topics is not None else [f"{kind}/".encode() for kind in kinds]:
                socket.subscribe(prefix)
            _connect(socket, address, server_key, client_key)
        except BaseException:
            socket.close(linger=0)
            raise

    @property
    def missed(self) -> dict[str, int]:
        """Frame messages that were sent and did not arrive, by stream, between the first and the last that did."""
        return {stream: gaps.missed for stream, gaps in self._gaps.items()}

    def take(self, parts: list[bytes]) -> Message | None:
        """The message in what was received; None: it is not one that was asked for.

        Raises:
            MessageError: it does not follow the schema.
        """
        # ZeroMQ matches prefixes: who asks for "door" gets "door2" too.
        if self._topics is not None and parts[0] not in self._topics:
            return None
        if len(parts) != 2:
            raise MessageError(f"a message has {len(parts)} parts, but must have 2: topic and body")
        message = decode(parts[1])
        if isinstance(message, FrameMessage):
            self._gaps[message.stream].take(message.seq, sum(message.dropped.values()))
        return message


class Subscriber:
    """Iterates over the messages of a publisher; connects again by itself when the publisher comes back.

    Args:
        address: ``tcp://HOST:PORT`` or ``ipc://PATH``, as the publisher's ``publish.address``.
        streams: names of the streams to hear of; None: all.
        types: ``frame``, ``event``, ``health``; None: all.
        server_key: the publisher's public key file, where it uses keys.
        timeout_s: iteration ends when no message came for this long; None: never.
        client_key: this subscriber's own key file, where the publisher has a list of who may subscribe.

    Raises:
        ConfigError: the address or the key file cannot be used.
        MessageError: while iterating, when a message does not follow the schema.
    """

    def __init__(
        self,
        address: str,
        streams: Collection[str] | None = None,
        types: Collection[MessageType] | None = None,
        server_key: str | Path | None = None,
        timeout_s: float | None = None,
        client_key: str | Path | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.SUB)
        self._subscription = Subscription(self._socket, address, streams, types, server_key, client_key)

    @property
    def missed(self) -> dict[str, int]:
        """Frame messages that were sent and did not arrive, by stream, between the first and the last that did."""
        return self._subscription.missed

    def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message, or None when none came in time; a timeout of None waits for ever."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while self._socket.poll(milliseconds_until(end)):
            if (message := self._subscription.take(self._socket.recv_multipart())) is not None:
                return message
        return None

    def close(self) -> None:
        """Disconnect; may be called twice."""
        self._socket.close(linger=0)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Message:
        message = self.receive(self._timeout_s)
        if message is None:
            raise StopIteration
        return message

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def milliseconds_until(end: float) -> int | None:
    """From now to ``end`` of ``time.monotonic()``, 0 at least; None where that is infinite."""
    return None if math.isinf(end) else max(0, math.ceil((end - time.monotonic()) * 1000))


def _connect(
    socket: zmq.Socket[Any], address: str, server_key: str | Path | None, client_key: str | Path | None
) -> None:
    socket.linger = 0
    socket.maxmsgsize = LONGEST_MESSAGE
    socket.heartbeat_ivl = HEARTBEAT_MS
    socket.heartbeat_timeout = 2 * HEARTBEAT_MS
    socket.ipv6 = "[" in address
    if server_key is not None:
        _use_keys(socket, server_key, client_key)
    try:
        port = address.rpartition(":")[2]
        if port.isdecimal() and int(port) > 65535:  # ZeroMQ would take it for another one
            raise zmq.ZMQError(errno.EINVAL)
        socket.connect(address)
    except zmq.ZMQError as error:
        shown, cause = redact(address), redact_in(str(error), address)
        raise ConfigError(f"address is {shown!r}, but must be tcp://HOST:PORT or ipc://PATH: {cause}") from error


def _use_keys(socket: zmq.Socket[Any], file: str | Path, own: str | Path | None) -> None:
    try:
        connect_with_key(socket, file, own)
    except KEY_ERRORS as error:
        also = "" if own is None else f", client key {str(own)!r}"
        raise ConfigError(f"server key is {str(file)!r}{also}, which cannot be used: {error}") from error
