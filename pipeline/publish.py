"""The results socket: finished frames become messages that any number of subscribers read."""

import ipaddress
import re
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import zmq
import zmq.auth

from engines.errors import ConfigError
from engines.spec import ModelSpec
from pipeline.config import PublishSettings
from pipeline.events import EventLog
from pipeline.messages import (
    FaceMessage,
    FrameMessage,
    IdentityMessage,
    Message,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
    encode,
    timestamp,
    topic,
)
from pipeline.metrics import Account, Accounts
from pipeline.types import Identity, Result, Stamps

SCENES_SHOWN = 3
SCENE_SHARE_SHOWN = 0.1  # the second and third scene need this probability
SUBSCRIPTIONS_MS = 100  # without another one, a new subscriber has said all that it wants
LINGER_MS = 500  # time that the last messages have to leave when the socket closes

_TCP = re.compile(r"tcp://(\[[^\]\s]+\]|[^:/\[\]\s]+):(\*|\d{1,5})")


def check_address(settings: PublishSettings) -> None:
    """Refuse an address that is none, and one that other hosts can reach without keys.

    Raises:
        ConfigError: with the key, the address and what is allowed.
    """
    address = settings.address
    match = _TCP.fullmatch(address)
    # ZeroMQ would take a port beyond 65535 for another one.
    is_port = match is not None and (match[2] == "*" or int(match[2]) <= 65535)
    if not (is_port or re.fullmatch(r"ipc://.+", address)):
        raise ConfigError(f"publish.address is {address!r}, but must be tcp://HOST:PORT or ipc://PATH")
    if match and not (_is_loopback(match[1]) or settings.curve_secret_file or settings.insecure):
        raise ConfigError(
            f"publish.address is {address!r}, which other hosts can reach: it needs publish.curve_secret_file, "
            "or publish.insecure = true to publish without keys"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Publisher:
    """A bound publishing socket. Any thread may send.

    A slow subscriber loses the messages beyond ``high_water_mark``; sending never waits for anyone. That is why one
    lock around the socket is enough to share it: it is held for microseconds, where a queue would need a thread and
    be a second place in which messages get lost.

    Raises:
        ConfigError: the address is not allowed or taken, or the key file cannot be used.
    """

    def __init__(self, settings: PublishSettings) -> None:
        check_address(settings)
        self._encoding = settings.encoding
        self._lock = threading.Lock()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)  # a PUB that can be asked who subscribed
        try:
            self._open(settings)
        except BaseException:
            self.close()
            raise

    def _open(self, settings: PublishSettings) -> None:
        self._socket.sndhwm = settings.high_water_mark
        self._socket.linger = LINGER_MS
        self._socket.ipv6 = "[" in settings.address
        if settings.curve_secret_file is not None:
            _use_key(self._socket, settings.curve_secret_file)
        try:
            self._socket.bind(settings.address)
        except zmq.ZMQError as error:
            raise ConfigError(f"publish.address is {settings.address!r}, which cannot be used: {error}") from error
        self._address = str(self._socket.get_string(zmq.LAST_ENDPOINT))

    @property
    def address(self) -> str:
        """Where the socket listens: the real port where the settings say 0 or ``*``."""
        return self._address

    def send(self, message: Message) -> None:
        """Send to whoever is there now."""
        parts = (topic(message), encode(message, self._encoding))
        with self._lock:
            while self._socket.poll(0):
                self._socket.recv()  # subscriptions pile up unless they are read
            self._socket.send_multipart(parts)

    def wait_for_subscriber(self, timeout_s: float) -> bool:
        """Wait until somebody subscribes; False when ``timeout_s`` seconds passed first.

        A subscriber asks for one kind of message after the other: the first is waited for, and those that follow it.
        """
        with self._lock:
            if not self._socket.poll(round(timeout_s * 1000)):
                return False
            while self._socket.poll(SUBSCRIPTIONS_MS):
                self._socket.recv()
            return True

    def close(self) -> None:
        """Give the last messages half a second to leave; may be called twice."""
        with self._lock:
            self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _use_key(socket: zmq.Socket[bytes], file: str) -> None:
    try:
        public, secret = zmq.auth.load_certificate(file)
        if secret is None:
            raise ValueError("it has no secret key")
        socket.curve_publickey, socket.curve_secretkey = public, secret
        socket.curve_server = True
    except (OSError, ValueError, zmq.ZMQError) as error:
        raise ConfigError(f"publish.curve_secret_file is {file!r}, which cannot be used: {error}") from error


class DropsBefore:
    """How many frames were given up *before* a frame, by cause.

    The counters alone run ahead: while a frame is in the network, later ones are dropped already. A stream's frames
    come in order and each is published or dropped, so ``seq - published`` of them were dropped before this one.
    """

    def __init__(self) -> None:
        self._told: dict[str, dict[str, int]] = {}

    def __call__(self, stream: str, seq: int, account: Account) -> dict[str, int]:
        """Drops by cause before frame ``seq``, with the stream's books as they are before it is published."""
        told = self._told.setdefault(stream, {})
        room = seq - account.published - sum(told.values())
        for cause, count in account.dropped.items():
            new = max(0, min(count - told.get(cause, 0), room))
            if new:
                told[cause] = told.get(cause, 0) + new
                room -= new
        return dict(told)


class Announcer:
    """Turns finished frames into messages and events, and keeps the books of what was published."""

    def __init__(self, publisher: Publisher, accounts: Accounts, spec: ModelSpec) -> None:
        self._publisher = publisher
        self._accounts = accounts
        self._spec = spec
        self._drops_before = DropsBefore()
        self._events = EventLog(spec.objects, spec.scenes)

    def update(self, result: Result) -> None:
        """Send one frame and its events, and count it as published."""
        frame = result.frame
        dropped = self._drops_before(frame.stream, frame.seq, self._accounts.of(frame.stream))
        # All of them before the first is sent: a crash must not leave a frame that was both told and dropped.
        messages: tuple[Message, ...] = (
            to_message(result, self._spec, dropped),
            *self._events.update(result),
        )
        for message in messages:
            self._publisher.send(message)
        self._accounts.published(frame.stream)


def publish(results: Iterable[Result], announcer: Announcer) -> Iterator[Result]:
    """Announce each finished frame and pass it on."""
    for result in results:
        announcer.update(result)
        yield result


def to_message(result: Result, spec: ModelSpec, dropped: Mapping[str, int]) -> FrameMessage:
    """The message of a finished frame: pixels to 1 decimal, scores to 3, times to 0.1 ms."""
    frame = result.frame
    return FrameMessage(
        stream=frame.stream,
        seq=frame.seq,
        captured_at=timestamp(frame.captured_ns),
        size=(frame.picture.width, frame.picture.height),
        objects=_objects(result, spec.objects),
        faces=_faces(result),
        scene=_scene(result, spec.scenes),
        timings_ms=_timings(result),
        dropped=dict(dropped),
    )


def _objects(result: Result, labels: tuple[str, ...]) -> tuple[ObjectMessage, ...]:
    tracks = result.identified.tracked.objects
    columns = zip(
        tracks.ids.tolist(),
        result.labels.tolist(),
        _rounded(result.label_scores, 3),
        _rounded(tracks.boxes, 1),
        strict=True,
    )
    return tuple(ObjectMessage(track, labels[label], score, tuple(box)) for track, label, score, box in columns)


def _faces(result: Result) -> tuple[FaceMessage, ...]:
    tracked = result.identified.tracked
    tracks = tracked.faces
    columns = zip(
        tracks.ids.tolist(),
        tracked.face_objects.tolist(),
        _rounded(tracks.scores, 3),
        _rounded(tracks.boxes, 1),
        _rounded(tracked.observed.detections.faces.landmarks[tracks.rows], 1),
        result.identified.identities,
        strict=True,
    )
    return tuple(
        FaceMessage(track, person or None, score, tuple(box), tuple(map(tuple, landmarks)), _identity(identity))
        for track, person, score, box, landmarks, identity in columns
    )


def _identity(identity: Identity | None) -> IdentityMessage | None:
    return None if identity is None else IdentityMessage(identity.name, round(float(identity.score), 3))


def _scene(result: Result, labels: tuple[str, ...]) -> tuple[SceneMessage, ...]:
    """The smoothed scene first, then what else is likely; nothing while there is no smoothed scene."""
    if result.scene_label < 0:
        return ()
    likely = [row for row in np.argsort(-result.scene).tolist() if result.scene[row] >= SCENE_SHARE_SHOWN]
    rows = [result.scene_label, *(row for row in likely if row != result.scene_label)][:SCENES_SHOWN]
    return tuple(SceneMessage(labels[row], round(float(result.scene[row]), 3)) for row in rows)


def _timings(result: Result) -> TimingsMessage:
    """Queue, infer and post follow each other and add up to the total; queue holds preprocessing."""
    stamps: Stamps = result.identified.tracked.observed.stamps
    began = result.frame.clock_ns
    return TimingsMessage(
        queue=_milliseconds(stamps.infer_started_ns - began),
        infer=_milliseconds(stamps.infer_ended_ns - stamps.infer_started_ns),
        post=_milliseconds(result.finished_ns - stamps.infer_ended_ns),
        total=_milliseconds(result.finished_ns - began),
    )


def _milliseconds(ns: int) -> float:
    return round(ns / 1e6, 1)


def _rounded(array: npt.NDArray[np.float32], decimals: int) -> list[Any]:
    # In float64, or 0.91 would be sent as 0.9100000262260437.
    rounded: list[Any] = np.round(array.astype(np.float64), decimals).tolist()
    return rounded
