"""The capture process: a thread for each of some streams, whose frames go into the ring."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from pipeline.batching.batcher import backlog
from pipeline.frames.counters import await_last_frame
from pipeline.frames.types import Frame, Health, Ticket
from pipeline.runtime.capturing import Tell, keep_capturing
from pipeline.runtime.graph import SOURCE, WORKERS, SourceParts, number, reader
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.supervision import StageThreads, source_patience_s
from pipeline.runtime.transfer import write_picture
from pipeline.runtime.workers.spec import LOOK_S, Opened, Pipe, WorkerSpec
from pipeline.runtime.zmq_link import HealthReport, Sender
from pipeline.settings.schema import StreamSettings
from pipeline.sinks.video import recorder_room

LIVE_WAITING: Final = 5  # frames of a live stream: what comes beyond that is stale before it has a slot

TOLD_S: Final = 1.0  # that a report has to be published before frames go on without it
TOLD_LOOK_S: Final = 0.001

log = structlog.get_logger()


def capture(worker_spec: WorkerSpec, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Capture the part's streams until all have ended or the part is told to stop."""
    context, stop = worker_spec.context, threading.Event()
    workers = StageThreads(stop.set)
    pipe.send(Opened({}))
    for stream in worker_spec.streams:
        workers.start(f"capture {stream.name}", partial(_capture_stream, worker_spec, stream, stop, pulse))
    while not workers.join(LOOK_S):
        if context.frames.is_shut(context.number):
            stop.set()
        if stop.is_set() and not workers.join(source_patience_s(worker_spec.streams)):
            log.warning("sources did not end and are left behind", threads=workers.running())
            break
    if workers.failure is not None:
        raise workers.failure


def _capture_stream(worker_spec: WorkerSpec, stream: StreamSettings, stop: threading.Event, pulse: Pulse) -> None:
    admission = Admission(worker_spec, stream)

    def frames_of(health: Tell) -> Iterator[Frame]:
        seen = worker_spec.context.frames.of(stream.name).captured  # by an earlier capture that crashed
        room = worker_spec.context.frames.layout.slot_bytes
        parts = SourceParts(
            settings=stream,
            inference=worker_spec.config.inference,
            source=None,
            stop=stop,
            health=health,
            seen=seen,
            base=0,
            over=lambda: stop.is_set() or admission.ended,
            more={"room_bytes": room, "lost": admission.lost},
        )
        return SOURCE.make(parts)(iter(()))

    try:
        keep_capturing(stream, frames_of, admission.put, admission.dropped, admission.tell, stop, pulse)
    finally:
        admission.close()


class Admission:
    """Puts a stream's frames into the ring and sends them on; a file waits for room, a live stream drops."""

    def __init__(self, worker_spec: WorkerSpec, stream: StreamSettings) -> None:
        self._me, self._ring, self._stream = worker_spec.context.number, worker_spec.context.frames, stream.name
        self._wakeup = worker_spec.wakeups.get(stream.name)
        self._backlog = backlog(len(worker_spec.wakeups), worker_spec.config.inference.max_batch)
        # A recorder that is slower than a file must not end up with all slots: live streams need some.
        room = 2 * self._backlog + recorder_room(len(worker_spec.config.streams))
        self._most = None if worker_spec.config.record.directory is None else room
        self._claimed: Ticket | None = None  # for a frame that was not sent on yet
        self._frames: Sender[Frame] = Sender(worker_spec.context, reader(SOURCE.writes))
        self._reports: Sender[Frame] = Sender(worker_spec.context, number(WORKERS[-1]))
        self.ended = False  # the stream said so

    def put(self, frame: Frame) -> None:
        """Send a frame on, or drop it."""
        ticket = self._wait_for_room() if self._wakeup else self._ring.claim(self._me, self._stream, LIVE_WAITING)
        if ticket is None:
            self._ring.miss(self._stream, "stale")
            return
        self._claimed = ticket
        picture = write_picture(frame.picture, self._ring, ticket)
        self._frames.put(replace(frame, picture=picture, ticket=ticket))
        self._claimed = None

    def _wait_for_room(self) -> Ticket:
        """A slot, once there is one; also when the run is stopped, since what is on its way is still finished."""
        assert self._wakeup is not None
        while (ticket := self._ring.claim(self._me, self._stream, self._backlog, self._most)) is None:
            self._wakeup.wait(LOOK_S)
        return ticket

    def lost(self, count: int) -> None:
        """Count frames of another host that did not arrive."""
        self._ring.miss(self._stream, "lost", count)

    def dropped(self, frame: Frame, cause: str) -> None:
        """Count a frame that was not sent on, and give its slot back if it had one."""
        if self._claimed is None:
            self._ring.miss(frame.stream, cause)
        else:
            self._ring.release(self._me, [self._claimed], cause)
            self._claimed = None

    def tell(self, report: Health) -> None:
        """Send what happened to the stream; that it is lost or over is told after its last frame."""
        if report.state != "up":
            await_last_frame(self._ring, self._stream)
        self.ended = report.state == "ended"
        log.info("stream " + report.state, stream=report.stream, cause=report.cause)
        reported = self._ring.reported(self._stream)
        self._reports.tell(HealthReport(report, self._ring.of(self._stream)))
        # The frames that follow take another way, and must not be told before it.
        patience = time.monotonic() + TOLD_S
        while self._ring.reported(self._stream) == reported and time.monotonic() < patience:
            time.sleep(TOLD_LOOK_S)

    def close(self) -> None:
        """What was put is still sent."""
        self._frames.close()
        self._reports.close()
