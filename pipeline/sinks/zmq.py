"""The results socket: finished frames become messages that any number of subscribers read."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

import structlog
import zmq

from engines.errors import ConfigError
from pipeline.settings.redact import redact, redact_in
from pipeline.settings.schema import PublishSettings
from pipeline.wire.curve import KEY_ERRORS, LONGEST_HEARD, is_loopback, listen_with_key, parse_tcp
from pipeline.wire.messages import Message, encode, topic

STOP_NOTICED_S = 0.2  # by whoever waits for a subscriber, after so long at the most
SUBSCRIPTION_S = 0.1  # without another one, a new subscriber has said all that it wants ...
SUBSCRIPTIONS_S = 1.0  # ... and after so long in any case
SUBSCRIBES = b"\x01"  # first byte of a subscription; 0 takes one back, and all else is rubbish
RECEIVED = 16  # messages of a subscriber that wait here; its others wait in the network
MAX_READ = 128  # of all subscribers, between what is sent
BURST = 100  # messages that come at once may wait here, however few a subscriber may be behind
LOOK_S = 0.02  # between two looks for what subscribers say, while nothing is sent
LINGER_MS = 500  # time that the last messages have to leave when the socket closes

log = structlog.get_logger()


def check_address(settings: PublishSettings) -> None:
    """Refuse an address that is none, and one that other hosts can reach without keys.

    Raises:
        ConfigError: with the key, the address and what is allowed.
    """
    address = settings.address
    tcp = parse_tcp(address)
    if tcp is None and not re.fullmatch(r"ipc://.+", address):
        raise ConfigError(f"publish.address is {redact(address)!r}, but must be tcp://HOST:PORT or ipc://PATH")
    if tcp and not (is_loopback(tcp[0]) or settings.curve_secret_file or settings.insecure):
        raise ConfigError(
            f"publish.address is {redact(address)!r}, which other hosts can reach: it needs publish.curve_secret_file, "
            "or publish.insecure = true to publish without keys"
        )


class Publisher:
    """A bound publishing socket. Any thread may send.

    A slow subscriber loses the messages beyond ``high_water_mark``; sending never waits for anyone. The socket is in a
    thread of its own, behind a bounded queue, since ZeroMQ takes in what subscribers say, and forgets what a
    large number of subscriptions was, in whichever thread uses the socket, for as long as that takes. What finds the
    queue full is lost to all, and logged.

    Raises:
        ConfigError: the address is not allowed or taken, or the key file cannot be used.
    """

    def __init__(self, settings: PublishSettings) -> None:
        check_address(settings)
        self._encoding = settings.encoding
        self._most = settings.high_water_mark + BURST
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._changed = threading.Condition()  # of all below
        self._over = False
        self._lost = 0
        self._subscriptions = 0  # so far
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)  # a PUB that can be asked who subscribed
        try:
            self._open(settings)
        except BaseException:
            self._socket.close()
            self._context.term()
            raise
        self._thread = threading.Thread(target=self._run, name="publish", daemon=True)
        self._thread.start()

    def _open(self, settings: PublishSettings) -> None:
        self._socket.sndhwm = settings.high_water_mark
        self._socket.rcvhwm, self._socket.maxmsgsize = RECEIVED, LONGEST_HEARD
        self._socket.linger = LINGER_MS
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
        item = topic(message), encode(message, self._encoding)
        with self._changed:
            if len(self._waiting) < self._most:
                self._waiting.append(item)
                self._changed.notify_all()
                return
            self._lost += 1
            first = self._lost == 1
        if first:
            log.warning("messages lost: the results socket is held up", waiting=self._most)

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Wait until somebody has subscribed; False when ``timeout_s`` seconds passed first.

        A subscriber asks for one kind of message after the other: the first is waited for, and those that follow it.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._subscriptions > 0, timeout_s):
                return False
            settled = time.monotonic() + SUBSCRIPTIONS_S
            before = 0
            while self._subscriptions > before and time.monotonic() < settled:
                before = self._subscriptions
                self._changed.wait_for(lambda: self._subscriptions > before, SUBSCRIPTION_S)  # noqa: B023 (called here)
            return True

    def await_subscriber(self, patience_s: float, stopped: Callable[[], bool]) -> bool:
        """Wait as :meth:`wait_for_subscriber` does, and look now and then whether the run was ``stopped`` meanwhile."""
        end = time.monotonic() + patience_s
        while (left_s := end - time.monotonic()) > 0.0 and not stopped():
            if self.wait_for_subscriber(min(left_s, STOP_NOTICED_S)):
                return True
        return False

    def _run(self) -> None:
        """Send what waits, and read what subscribers say, until there is nothing more to send."""
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._waiting or self._over, LOOK_S)
                    items = [self._waiting.popleft() for _ in range(len(self._waiting))]
                    lost, self._lost = self._lost, 0
                    if self._over and not items:
                        return
                if lost:
                    log.warning("the results socket is free again", messages_lost=lost)
                self._read()
                for item in items:
                    self._socket.send_multipart(item)
        finally:
            self._socket.close()

    def _read(self) -> None:
        """Read some of what subscribers say; of who says more than that, the rest waits in the network."""
        new = 0
        for _ in range(MAX_READ):
            # Asking like this costs less than a poll.
            if not int(self._socket.get(zmq.EVENTS)) & zmq.POLLIN:
                break
            new += self._socket.recv().startswith(SUBSCRIBES)
        if new:
            with self._changed:
                self._subscriptions += new
                self._changed.notify_all()

    def close(self) -> None:
        """Send what waits, and give it half a second to leave; may be called twice."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _use_key(socket: zmq.Socket[bytes], file: str) -> None:
    try:
        listen_with_key(socket, file)
    except KEY_ERRORS as error:
        raise ConfigError(f"publish.curve_secret_file is {file!r}, which cannot be used: {error}") from error
