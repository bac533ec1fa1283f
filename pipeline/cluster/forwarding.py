"""An edge host's run: capture alone, and every frame goes to another host that runs the network."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Final, Self

import structlog
import zmq
from msgspec import structs

from engines.errors import ConfigError
from pipeline.frames.counters import FrameCounters
from pipeline.frames.jpeg import JpegEncoder
from pipeline.frames.types import Frame, Health
from pipeline.runtime.capturing import Tell, keep_capturing
from pipeline.runtime.link import LinkClosed
from pipeline.runtime.summary import FileEnd, Summary, file_end
from pipeline.runtime.supervision import HURRY_S, StageThreads, source_patience_s, until_over
from pipeline.settings.redact import redact, redact_in
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sources.capture import capture, check_source, waits_for_nobody
from pipeline.sources.kind import settled
from pipeline.sources.network import check_receiving, is_remote
from pipeline.wire.curve import KEY_ERRORS, LONGEST_HEARD, connect_with_key, is_loopback, parse_tcp
from pipeline.wire.remote import pack_loss, pack_picture

PICTURES_WAITING: Final = 1  # in the socket, beside the one that is being sent
BUFFER_BYTES: Final = 2**18  # of the kernel: what is in there is on its way, however slow the network
RECONNECT_MS: Final = 100
STOP_NOTICED_S: Final = 0.1  # after so long at the most
LAST_WORD_S: Final = 0.5  # that the end of a stream waits for room

log = structlog.get_logger()


def check_hosts(settings: StreamSettings) -> None:
    """Refuse what a stream says about other hosts where it is not allowed, with a ConfigError; opens nothing."""
    if is_remote(settings.source):
        check_receiving(settings)
    if settings.forward is not None:
        check_forwarding(settings)


def check_forwarding(settings: StreamSettings) -> None:
    """Refuse an address ``forward`` that is none, and one of another host without its key.

    Raises:
        ConfigError: with the key, the value and what is allowed.
    """
    shown = f"stream {settings.name!r}: forward is {redact(settings.forward or '')!r}"
    tcp = parse_tcp(settings.forward or "")
    if tcp is None or not tcp[1].isdecimal() or int(tcp[1]) == 0 or tcp[0] == "*":
        raise ConfigError(f"{shown}, but must be tcp://HOST:PORT")
    if not (is_loopback(tcp[0]) or settings.server_key or settings.insecure):
        raise ConfigError(
            f"{shown}, which is another host: it needs server_key, or insecure = true to send pictures that "
            "everybody on their way can see"
        )


def run_forwarding(config: Config, stop: threading.Event, started: Callable[[str], None]) -> Summary:
    """Capture every stream and send its frames on until all have ended or ``stop`` is set.

    In the books *published* is what was given to the network: a live stream's frame that cannot be sent at once is
    dropped as ``stale``, a file waits.

    Args:
        config: all of its streams say where to ``forward``; the rest is not used.
        stop: set it to end the run.
        started: called with the addresses once everything is open.

    Raises:
        TrunklineError: something in the configuration cannot be had; nothing has run then.
    """
    config = structs.replace(config, streams=tuple(map(settled, config.streams)))
    for stream in config.streams:
        check_source(stream)
    counters, began_s, ends = FrameCounters(), time.monotonic(), dict[str, FileEnd]()
    with ExitStack() as opened:
        senders = [opened.enter_context(PictureSender(stream, stop)) for stream in config.streams]
        started(", ".join(stream.forward or "" for stream in config.streams))
        workers = StageThreads(stop.set)
        for stream, sender in zip(config.streams, senders, strict=True):
            workers.start(f"capture {stream.name}", partial(_forward, stream, sender, stop, counters, ends))
        try:
            while not workers.join(STOP_NOTICED_S):
                if stop.is_set() and not workers.join(source_patience_s(config.streams)):
                    log.warning("sources did not end and are left behind", threads=workers.running())
                    break
        except BaseException:
            stop.set()
            workers.join(HURRY_S)
            raise
        if workers.failure is not None:
            raise workers.failure
    counts = {stream.name: counters.of(stream.name) for stream in config.streams}
    return Summary(seconds=time.monotonic() - began_s, streams=counts, ends=ends)


def _forward(
    stream: StreamSettings,
    sender: "PictureSender",
    stop: threading.Event,
    counters: FrameCounters,
    ends: dict[str, FileEnd],
) -> None:
    def frames_of(health: Tell) -> Iterator[Frame]:
        seen = counters.of(stream.name).captured  # by an earlier capture that crashed
        frames = capture(stream, stop=stop, health=health, first_seq=seen, lost=lost)
        return until_over(frames, lambda: stop.is_set() or sender.over)

    def admit(frame: Frame) -> None:
        counters.captured(frame.stream)
        if sender.put(frame):
            counters.published(frame.stream)
        else:
            counters.dropped(frame.stream, "stale")

    def dropped(frame: Frame, cause: str) -> None:
        counters.dropped(frame.stream, cause)

    def lost(count: int, cause: str) -> None:
        counters.captured(stream.name, count)
        counters.dropped(stream.name, cause, count)

    def tell(report: Health) -> None:
        ends.update(file_end(report))
        sender.tell(report)

    keep_capturing(stream, frames_of, admit, dropped, tell, stop)
    sender.end()


class PictureSender:
    """Sends the frames of one stream to another host. For one thread at a time.

    Raises:
        ConfigError: the address or the key file cannot be used.
    """

    def __init__(self, settings: StreamSettings, stop: threading.Event) -> None:
        check_forwarding(settings)
        self._settings, self._stop = settings, stop
        self._live = waits_for_nobody(settings)
        self._to = redact(settings.forward or "")  # for people
        self._session = time.time_ns()
        self._encoder = JpegEncoder(settings.jpeg_quality) if settings.encoding == "jpeg" else None
        self._last_sent_s = time.monotonic()
        self._stuck = False
        self.over = False  # it was told that the stream has ended
        # A context, and so a thread for the copy to the network, of its own: no stream delays another.
        self._context = zmq.Context()
        self._socket: zmq.Socket[bytes] = self._context.socket(zmq.PUSH)
        try:
            self._connect()
        except KEY_ERRORS as error:
            self.close()
            key = f", server_key {settings.server_key!r}" if settings.server_key else ""
            forward = settings.forward or ""
            raise ConfigError(
                f"stream {settings.name!r}: forward {redact(forward)!r}{key} cannot be used: "
                f"{redact_in(str(error), forward)}"
            ) from error

    def _connect(self) -> None:
        settings, socket = self._settings, self._socket
        timeout_ms = round(1000 * settings.timeout_s)
        socket.linger = timeout_ms
        socket.sndhwm, socket.sndbuf, socket.maxmsgsize = PICTURES_WAITING, BUFFER_BYTES, LONGEST_HEARD
        socket.immediate = True  # while nobody is there nothing waits, and nobody is sent old pictures when he comes
        socket.reconnect_ivl = RECONNECT_MS
        # A host that lost its power says nothing, and TCP alone would wait for it for a quarter of an hour.
        socket.heartbeat_ivl, socket.heartbeat_timeout = max(1, timeout_ms // 2), timeout_ms
        assert settings.forward is not None
        socket.ipv6 = "[" in settings.forward
        if settings.server_key is not None:
            connect_with_key(socket, settings.server_key, settings.client_key)
        socket.connect(settings.forward)

    def put(self, frame: Frame) -> bool:
        """Send a frame. A live stream's that cannot be sent at once is not: False. A file's waits.

        Raises:
            LinkClosed: the run was stopped meanwhile.
        """
        while not self._has_room(0.0 if self._live else STOP_NOTICED_S):
            self._note_stuck()
            if self._live:
                return False
            if self._stop.is_set():
                raise LinkClosed
        # Packed only now: most of the work is the JPEG, and what is dropped needs none.
        try:
            self._socket.send_multipart(pack_picture(frame, self._session, self._encoder), zmq.DONTWAIT, copy=False)
        except zmq.Again:  # the other host went away in between
            return False if self._live else self.put(frame)
        self._note_sent()
        return True

    def _has_room(self, wait_s: float) -> bool:
        return bool(self._socket.poll(round(1000 * wait_s), zmq.POLLOUT))

    def _note_stuck(self) -> None:
        """Say it once when nothing could be sent for long."""
        stuck_s = time.monotonic() - self._last_sent_s
        if not self._stuck and stuck_s > self._settings.timeout_s:
            self._stuck = True
            log.warning("nobody takes the frames", stream=self._settings.name, to=self._to, for_s=round(stuck_s))

    def _note_sent(self) -> None:
        self._last_sent_s = time.monotonic()
        if self._stuck:
            self._stuck = False
            log.info("frames are taken again", stream=self._settings.name, to=self._to)

    def tell(self, report: Health) -> None:
        """Log what happened to the stream, and tell the other host where it gives no pictures any more."""
        log.info("stream " + report.state, stream=report.stream, cause=report.cause)
        if report.state != "up":
            self.over = report.state == "ended"
            self._tell_loss(report.cause)

    def end(self) -> None:
        """Tell the other host that no more comes, unless it knows."""
        if not self.over:
            self.over = True
            self._tell_loss("the run there was stopped")

    def _tell_loss(self, cause: str) -> None:
        # Only to spare the other end its timeout, so it may get lost.
        if self._has_room(LAST_WORD_S if self.over else 0.0):
            try:
                self._socket.send_multipart(pack_loss(self._settings.name, self._session, cause), zmq.DONTWAIT)
            except zmq.Again:
                log.debug("the other host was not told", stream=self._settings.name)

    def close(self) -> None:
        """What was sent has ``timeout_s`` to leave."""
        self._socket.close()
        self._context.term()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
