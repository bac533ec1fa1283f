"""Keeps one stream captured: a capture that crashes is started again after a pause, and no other stream notices."""

import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Literal

import structlog

from engines.errors import kind_and_line
from pipeline.frames.backoff import Backoff
from pipeline.frames.counters import CountsReader, await_last_frame
from pipeline.frames.types import Frame, Health
from pipeline.runtime.link import LinkClosed
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.supervision import MAX_CRASHES, CrashLimit, Held
from pipeline.settings.redact import redact_in
from pipeline.settings.schema import StreamSettings
from pipeline.sources.kind import is_live

log = structlog.get_logger()


Tell = Callable[[Health], None]


def keep_capturing(
    settings: StreamSettings,
    frames_of: Callable[[Tell], Iterable[Frame]],
    admit: Callable[[Frame], None],
    dropped: Callable[[Frame, str], None],
    health: Tell,
    stop: threading.Event,
    pulse: Pulse | None = None,
) -> None:
    """Hand the frames of one stream to ``admit`` until they end or ``stop`` is set, whatever its capture raises.

    A capture that raises is logged with its traceback, its stream is told ``down`` with the cause, once until it is up
    again or the cause is another, and it is started again after a jittered pause that doubles from ``reconnect_min_s``
    to ``reconnect_max_s``. A file that crashed more than MAX_CRASHES times within a minute is told ``ended``: it would
    crash in the same place for ever.

    Args:
        settings: of the stream.
        frames_of: starts its capture, behind the frames that an earlier one gave; it tells what happens to the stream.
        admit: takes each frame; when it raises LinkClosed the frame is dropped as ``shutdown``, and the capture ends.
        dropped: is told of each frame that was given and not admitted, with the cause.
        health: hears what happens to the stream.
        stop: ends the capture, and a pause.
        pulse: of the process, if somebody watches it.
    """
    backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, random.Random())
    limit, held, down = CrashLimit(), Held(dropped), Down(health)
    with (pulse or Pulse()).stage():  # a source that reads for long is at rest: its timeouts watch over it
        while not stop.is_set():
            try:
                for frame in held.watch(frames_of(down.tell)):
                    admit(frame)
                    held.release(frame)
                    backoff.reset()
                return
            except LinkClosed:
                held.drop("shutdown")
                return
            except Exception as error:  # whatever a source, a driver or a decoder does, the other streams go on
                cause = redact_in(f"capture crashed: {kind_and_line(error)}", settings.source)
                trace, lost = redact_in(traceback.format_exc(), settings.source), held.drop("crash")
                log.error("capture crashed", stream=settings.name, frames_lost=lost, exception=trace)
            if not limit.allows(time.monotonic()) and not is_live(settings):
                cause = f"more than {MAX_CRASHES} times in a minute: {cause}"
                return health(Health(settings.name, "ended", cause, time.time_ns()))
            if not stop.is_set():
                down.crashed(settings.name, cause)
                stop.wait(backoff.next())


class HealthReporter:
    """Tells what happens to one stream, in order, and nothing after its last word. Thread-safe.

    Args:
        stream: its name.
        counters: of its frames: that it is lost or over is told after the last of them.
        send: publishes a report, and returns when frames that follow may be published.
    """

    def __init__(self, stream: str, counters: CountsReader, send: Tell) -> None:
        self.over = False  # its last word was said: by itself, or for it
        self._stream, self._counters, self._send = stream, counters, send
        self._lock = threading.Lock()  # held while something is told, so that nothing comes after the last word

    def tell(self, report: Health) -> None:
        """Tell what happened to the stream."""
        self._tell(report, last=report.state == "ended")

    def end(self, state: Literal["down", "ended"], cause: str) -> None:
        """Say the last word, unless it was said. The stream's thread may hang in a read: what it tells later is not."""
        self._tell(Health(self._stream, state, cause, time.time_ns()), last=True)

    def _tell(self, report: Health, last: bool) -> None:
        if report.state != "up":
            await_last_frame(self._counters, self._stream)
        with self._lock:
            if not self.over:
                self.over = last
                log.info("stream " + report.state, stream=self._stream, cause=report.cause)
                self._send(report)


class Down:
    """Passes on what happens to a stream, and tells of crashes, the same one once until the stream is up again."""

    def __init__(self, health: Tell) -> None:
        self._health = health
        self._cause: str | None = None

    def tell(self, report: Health) -> None:
        """Pass a report on."""
        self._cause = report.cause if report.state == "down" else None
        self._health(report)

    def crashed(self, stream: str, cause: str) -> None:
        """The capture of the stream crashed."""
        if cause != self._cause:
            self.tell(Health(stream, "down", cause, time.time_ns()))
