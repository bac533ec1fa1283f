"""The results socket: finished frames become messages that any number of subscribers read."""

import re
import threading
import time
from collections.abc import Callable
from typing import Self

import zmq

from engines.errors import ConfigError
from pipeline.settings.redact import redact, redact_in
from pipeline.settings.schema import PublishSettings
from pipeline.sinks.base import CLOSE_S, SinkThread
from pipeline.sinks.books import SinkBook
from pipeline.wire.allowed_keys import KeyCheck
from pipeline.wire.connection_limit import ConnectionLimit
from pipeline.wire.curve import KEY_ERRORS, LONGEST_HEARD, is_loopback, listen_with_key, parse_tcp
from pipeline.wire.messages import HealthMessage, Message, encode, topic

STOP_NOTICED_S = 0.2  # by whoever waits for a subscriber, after so long at the most
SUBSCRIPTION_S = 0.1  # without another one, a new subscriber has said all that it wants ...
SUBSCRIPTIONS_S = 1.0  # ... and after so long in any case
SUBSCRIBES = b"\x01"  # first byte of a subscription; 0 takes one back, and all else is rubbish
RECEIVED = 16  # messages of a subscriber that wait here; its others wait in the network
MAX_READ = 128  # of all subscribers, between what is sent
BURST = 100  # messages that come at once may wait here, however few a subscriber may be behind
LOOK_S = 0.02  # between two looks for what subscribers say, while nothing is sent
LONGEST_TOPIC = 100  # bytes of what somebody asks for that are looked at
TOLD_AGAIN_S = 1.0  # between two times that health is said again
REMEMBERED = 1000  # streams whose health is
LINGER_MS = 500  # time that the last messages have to leave when the socket closes


def check_address(settings: PublishSettings) -> None:
    """Refuse an address that is none, and one that other hosts can reach without keys.

    Raises:
        ConfigError: with the key, the address and what is allowed.
    """
    address = settings.address
    tcp = parse_tcp(address)
    if tcp is None and not re.fullmatch(r"ipc://.+", address):
        raise ConfigError(f"publish.address is {redact(address)!r}, but must be tcp://HOST:PORT or ipc://PATH")
    if settings.clients is not None and settings.curve_secret_file is None:
        raise ConfigError("publish.clients is there, but needs publish.curve_secret_file: without it nobody has a key")
    if tcp and not (is_loopback(tcp[0]) or (settings.curve_secret_file and settings.clients) or settings.insecure):
        raise ConfigError(
            f"publish.address is {redact(address)!r}, which other hosts can reach: it needs publish.curve_secret_file "
            "and publish.clients, a folder with the public keys of who may subscribe; or publish.insecure = true, "
            "which lets everybody in"
        )


class ZmqSink:
    """A bound publishing socket; made in one thread, and used in another from then on.

    A slow subscriber loses the messages beyond ``high_water_mark``; sending never waits for anyone. ZeroMQ takes in
    what subscribers say, and forgets what a large number of subscriptions was, in whichever thread uses the socket,
    for as long as that takes.

    Whoever subscribes hears what was said last of the health of each stream, since it is said only when it changes;
    those who are there already hear it again.

    Raises:
        ConfigError: the address is not allowed or taken, or the key file cannot be used.
    """

    Settings = PublishSettings
    look_s = LOOK_S

    def __init__(self, settings: PublishSettings) -> None:
        check_address(settings)
        self._encoding = settings.encoding
        self._subscribed = threading.Condition()
        self._subscriptions = 0  # so far
        self._health: dict[bytes, bytes] = {}  # what was said last, by topic
        self._told_s = 0.0  # when it was said again
        self._asked: set[bytes] = set()  # beginnings of topics, by whom it was not yet
        self._context = zmq.Context()
        self._keys = KeyCheck(self._context, settings.clients, settings.curve_secret_file)
        self._socket = self._context.socket(zmq.XPUB)  # a PUB that can be asked who subscribed
        try:
            self._open(settings)
        except BaseException:
            self.close()
            raise

    def _open(self, settings: PublishSettings) -> None:
        self._socket.sndhwm = settings.high_water_mark
        self._socket.rcvhwm, self._socket.maxmsgsize = RECEIVED, LONGEST_HEARD
        self._socket.linger = LINGER_MS
        self._limit = ConnectionLimit(self._socket)
        self._socket.xpub_verbose = True  # tell of those who want what others have, too
        self._socket.ipv6 = "[" in settings.address
        if settings.curve_secret_file is not None:
            _use_key(self._socket, settings.curve_secret_file)
        try:
            self._socket.bind(settings.address)
        except zmq.ZMQError as error:
            cause = redact_in(str(error), settings.address)
            raise ConfigError(
                f"publish.address is {redact(settings.address)!r}, which cannot be used: {cause}"
            ) from error
        self._address = str(self._socket.get_string(zmq.LAST_ENDPOINT))

    @property
    def address(self) -> str:
        """Where the socket listens: the real port where the settings say 0 or ``*``."""
        return self._address

    def send(self, message: Message) -> None:
        """Send to whoever is there now."""
        name, body = topic(message), encode(message, self._encoding)
        if isinstance(message, HealthMessage):
            self._health.pop(name, None)
            self._health[name] = body
            if len(self._health) > REMEMBERED:
                del self._health[next(iter(self._health))]
        self._socket.send_multipart((name, body))

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Wait until somebody has subscribed; False when ``timeout_s`` seconds passed first.

        A subscriber asks for one kind of message after the other: the first is waited for, and those that follow it.
        """
        with self._subscribed:
            if not self._subscribed.wait_for(lambda: self._subscriptions > 0, timeout_s):
                return False
            settled = time.monotonic() + SUBSCRIPTIONS_S
            before = 0
            while self._subscriptions > before and time.monotonic() < settled:
                before = self._subscriptions
                self._subscribed.wait_for(lambda: self._subscriptions > before, SUBSCRIPTION_S)  # noqa: B023 (called here)
            return True

    def look(self) -> None:
        """Read some of what subscribers say; of who says more than that, the rest waits in the network."""
        new = 0
        for _ in range(MAX_READ):
            # Asking like this costs less than a poll.
            if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                break
            said = self._socket.recv()
            if said.startswith(SUBSCRIBES):
                new += 1
                self._asked.add(said[1:LONGEST_TOPIC])
        self._tell_health()
        if new:
            with self._subscribed:
                self._subscriptions += new
                self._subscribed.notify_all()

    def _tell_health(self) -> None:
        """Say again what was said last of the streams that somebody has asked for; not all the time."""
        if self._asked and (now_s := time.monotonic()) - self._told_s >= TOLD_AGAIN_S:
            self._told_s = now_s
            for name, body in self._health.items():
                if name.startswith(tuple(self._asked)):
                    self._socket.send_multipart((name, body))
            self._asked.clear()

    def close(self) -> None:
        """Give what was sent half a second to leave."""
        self._socket.close()
        self._keys.close()
        self._context.term()


class Publisher:
    """The results socket of a run, behind its queue and in its thread. Any thread may send.

    Raises:
        ConfigError: as of :class:`ZmqSink`.
    """

    def __init__(self, settings: PublishSettings, book: SinkBook | None = None) -> None:
        self._sink = ZmqSink(settings)
        self.thread = SinkThread("publish", self._sink, settings.high_water_mark + BURST, book)

    @property
    def address(self) -> str:
        """Where the socket listens: the real port where the settings say 0 or ``*``."""
        return self._sink.address

    def send(self, message: Message) -> None:
        """Send to whoever is there; never waits."""
        self.thread.send(message)

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """See :meth:`ZmqSink.wait_for_subscriber`."""
        return self._sink.wait_for_subscriber(timeout_s)

    def await_subscriber(self, patience_s: float, stopped: Callable[[], bool]) -> bool:
        """Wait as :meth:`wait_for_subscriber` does, and look now and then whether the run was ``stopped`` meanwhile."""
        end = time.monotonic() + patience_s
        while (left_s := end - time.monotonic()) > 0.0 and not stopped():
            if self.wait_for_subscriber(min(left_s, STOP_NOTICED_S)):
                return True
        return False

    def close(self) -> None:
        """Send what waits, and give it half a second to leave; may be called twice."""
        self.thread.finish()
        self.thread.join(time.monotonic() + CLOSE_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _use_key(socket: zmq.Socket[bytes], file: str) -> None:
    try:
        listen_with_key(socket, file)
    except KEY_ERRORS as error:
        raise ConfigError(f"publish.curve_secret_file is {file!r}, which cannot be used: {error}") from error
