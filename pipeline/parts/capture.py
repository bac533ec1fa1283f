"""The capture process: a thread for each of some streams, whose frames go into the ring."""

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from pipeline.batching import backlog
from pipeline.capture import capture as captured
from pipeline.capturing import Tell, keep_capturing
from pipeline.config import StreamSettings
from pipeline.cuts import mark_cuts
from pipeline.metrics import await_last_frame
from pipeline.parts.part import FINISH, LOOK_S, PREPARE, Opened, Part, Pipe
from pipeline.pulse import Pulse
from pipeline.rate import mark_still
from pipeline.record import recorder_room
from pipeline.supervision import Workers, source_patience_s, until_over
from pipeline.transfer import write_picture
from pipeline.types import Frame, Health, Ticket
from pipeline.zmq_link import Happened, Outlet

LIVE_WAITING: Final = 5  # frames of a live stream: what comes beyond that is stale before it has a slot

TOLD_S: Final = 1.0  # that a report has to be published before frames go on without it
TOLD_LOOK_S: Final = 0.001

log = structlog.get_logger()


def capture(part: Part, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Capture the part's streams until all have ended or the part is told to stop."""
    place, stop = part.place, threading.Event()
    workers = Workers(stop.set)
    pipe.send(Opened({}))
    for stream in part.streams:
        workers.start(f"capture {stream.name}", partial(_capture_stream, part, stream, stop, pulse))
    while not workers.join(LOOK_S):
        if place.frames.is_shut(place.number):
            stop.set()
        if stop.is_set() and not workers.join(source_patience_s(part.streams)):
            log.warning("sources did not end and are left behind", threads=workers.running())
            break
    if workers.failure is not None:
        raise workers.failure


def _capture_stream(part: Part, stream: StreamSettings, stop: threading.Event, pulse: Pulse) -> None:
    admission = Admission(part, stream)

    def frames_of(health: Tell) -> Iterator[Frame]:
        seen = part.place.frames.of(stream.name).captured  # by an earlier capture that crashed
        room = part.place.frames.layout.slot_bytes
        frames = captured(stream, stop=stop, health=health, first_seq=seen, room_bytes=room, lost=admission.lost)
        marked = mark_cuts(mark_still(frames, part.config.inference))
        return until_over(marked, lambda: stop.is_set() or admission.ended)

    try:
        keep_capturing(stream, frames_of, admission.put, admission.dropped, admission.tell, stop, pulse)
    finally:
        admission.close()


class Admission:
    """Puts a stream's frames into the ring and sends them on; a file waits for room, a live stream drops."""

    def __init__(self, part: Part, stream: StreamSettings) -> None:
        self._me, self._ring, self._stream = part.place.number, part.place.frames, stream.name
        self._bell = part.bells.get(stream.name)
        self._backlog = backlog(len(part.bells), part.config.inference.max_batch)
        # A recorder that is slower than a file must not end up with all slots: live streams need some.
        room = 2 * self._backlog + recorder_room(len(part.config.streams))
        self._most = None if part.config.record.directory is None else room
        self._claimed: Ticket | None = None  # for a frame that was not sent on yet
        self._frames: Outlet[Frame] = Outlet(part.place, PREPARE)
        self._reports: Outlet[Frame] = Outlet(part.place, FINISH)
        self.ended = False  # the stream said so

    def put(self, frame: Frame) -> None:
        """Send a frame on, or drop it."""
        ticket = self._wait_for_room() if self._bell else self._ring.claim(self._me, self._stream, LIVE_WAITING)
        if ticket is None:
            self._ring.miss(self._stream, "stale")
            return
        self._claimed = ticket
        picture = write_picture(frame.picture, self._ring, ticket)
        self._frames.put(replace(frame, picture=picture, ticket=ticket))
        self._claimed = None

    def _wait_for_room(self) -> Ticket:
        """A slot, once there is one; also when the run is stopped, since what is on its way is still finished."""
        assert self._bell is not None
        while (ticket := self._ring.claim(self._me, self._stream, self._backlog, self._most)) is None:
            self._bell.wait(LOOK_S)
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
        told = self._ring.told(self._stream)
        self._reports.tell(Happened(report, self._ring.of(self._stream)))
        # The frames that follow take another way, and must not be told before it.
        patience = time.monotonic() + TOLD_S
        while self._ring.told(self._stream) == told and time.monotonic() < patience:
            time.sleep(TOLD_LOOK_S)

    def close(self) -> None:
        """What was put is still sent."""
        self._frames.close()
        self._reports.close()
