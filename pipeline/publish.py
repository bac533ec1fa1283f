"""The results socket: finished frames become messages that any number of subscribers read."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Self

import numpy as np
import structlog
import zmq

from engines.errors import ConfigError
from engines.spec import ModelSpec
from pipeline.config import PublishSettings
from pipeline.events import EventLog
from pipeline.journal import Journal
from pipeline.messages import (
    Cause,
    EventMessage,
    FaceMessage,
    FrameMessage,
    HealthMessage,
    Message,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
    encode,
    timestamp,
    topic,
)
from pipeline.metrics import Account, Books
from pipeline.redact import redact, redact_in
from pipeline.sockets import KEY_ERRORS, LONGEST_HEARD, is_loopback, listen_with_key, parse_tcp
from pipeline.types import Health, Result, Stamps
from pipeline.wording import face_messages, rounded, tuples
from pipeline.zones import Counts

SCENES_SHOWN = 3
SCENE_SHARE_SHOWN = 0.1  # the second and third scene need this probability
STOP_NOTICED_S = 0.2  # by whoever waits for a subscriber, after so long at the most
SUBSCRIPTION_S = 0.1  # without another one, a new subscriber has said all that it wants ...
SUBSCRIPTIONS_S = 1.0  # ... and after so long in any case
SUBSCRIBES = b"\x01"  # first byte of a subscription; 0 takes one back, and all else is rubbish
RECEIVED = 16  # messages of a subscriber that wait here; its others wait in the network
MOST_READ = 128  # of all subscribers, between what is sent
BURST = 100  # messages that come at once may wait here, however few a subscriber may be behind
LOOK_S = 0.02  # between two looks for what subscribers say, while nothing is sent
SUBSCRIBERS_BACK_S = 1.0  # to come back to the address of a publisher that died: ZeroMQ tries ten times a second
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
        for _ in range(MOST_READ):
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
    """Turns finished frames into messages and events.

    Args:
        publisher: where they go.
        books: of the streams, for the drops that messages tell.
        spec: of the model, for its labels.
        events: derives the events; None: without zones, lines and crops.
        journal: where what was announced is kept for whoever comes after this process; None: nobody does.
    """

    def __init__(
        self,
        publisher: Publisher,
        books: Books,
        spec: ModelSpec,
        events: EventLog | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._publisher, self._books, self._spec = publisher, books, spec
        self._drops_before = DropsBefore()
        self._events = EventLog(spec.objects) if events is None else events
        self._journal = journal
        self._unsent: deque[EventMessage] = deque()  # a crash while sending must not lose an end
        self._lock = threading.Lock()  # frames come from one thread, the ends of streams from others

    def update(self, result: Result) -> None:
        """Send one frame and its events."""
        frame = result.frame
        dropped = self._drops_before(frame.stream, frame.seq, self._books.of(frame.stream))
        with self._lock:
            # All of them before the first is sent: a crash must not leave a frame that was both told and dropped.
            message = to_message(result, self._spec, dropped)
            self._unsent += self._events.update(message, result)
            if self._journal is not None:
                tracked = result.identified.tracked
                self._journal.reached(frame, tracked.objects, tracked.faces)
                self._journal.announcing(self._unsent)
            self._publisher.send(message)
            self._send_events()

    def counts(self, stream: str) -> dict[str, Counts]:
        """Of a stream's zones and lines, as of its last frame."""
        with self._lock:
            return self._events.counts(stream)

    def end(self, stream: str, cause: Cause) -> None:
        """Send the end of everything that was told of a stream, as of its last frame."""
        with self._lock:
            self._unsent += self._events.end(stream, cause)
            self._send_events()

    def end_all(self, cause: Cause) -> None:
        """Send the end of everything."""
        for stream in self._events.streams:
            self.end(stream, cause)

    def _send_events(self) -> None:
        sent = []
        while self._unsent:
            self._publisher.send(self._unsent[0])
            sent.append(self._unsent.popleft())
        if self._journal is not None:
            self._journal.announced(sent)


def settle(publisher: Publisher, journal: Journal, cause: Cause) -> None:
    """Send the ends that a publisher at the same address owed when it was killed, once its subscribers are back."""
    if owed := journal.left(cause):
        publisher.await_subscriber(SUBSCRIBERS_BACK_S, lambda: False)
        for event in owed:
            publisher.send(event)
        journal.clear()


def publish(results: Iterable[Result], announcer: Announcer) -> Iterator[Result]:
    """Announce each finished frame and pass it on."""
    for result in results:
        announcer.update(result)
        yield result


def health_message(report: Health, account: Account) -> HealthMessage:
    """What happened to a stream, with its books so far."""
    return HealthMessage(
        stream=report.stream,
        at=timestamp(report.at_ns),
        state=report.state,
        cause=report.cause,
        captured=account.captured,
        published=account.published,
        dropped=account.dropped,
    )


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
    columns = (
        tracks.ids.tolist(),
        map(labels.__getitem__, result.labels.tolist()),
        rounded(result.label_scores, 3).tolist(),
        tuples(rounded(tracks.boxes, 1)),
    )
    return tuple(map(ObjectMessage, *columns))


def _faces(result: Result) -> tuple[FaceMessage, ...]:
    tracked = result.identified.tracked
    tracks = tracked.faces
    if not len(tracks.ids):
        return ()
    landmarks = tracked.observed.detections.faces.landmarks[tracks.rows]
    owners = tracked.face_objects.tolist()
    return face_messages(
        tracks.ids.tolist(), owners, tracks.scores, tracks.boxes, landmarks, result.identified.identities
    )


def _scene(result: Result, labels: tuple[str, ...]) -> tuple[SceneMessage, ...]:
    """The smoothed scene first, then what else is likely; nothing while there is no smoothed scene."""
    if result.scene_label < 0:
        return ()
    (likely,) = (result.scene >= SCENE_SHARE_SHOWN).nonzero()
    likely = likely[np.argsort(-result.scene[likely], kind="stable")].tolist()
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
