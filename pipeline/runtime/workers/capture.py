"""The capture process: a thread for each of some streams, whose frames go into the ring."""

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog

from pipeline.batching.batcher import backlog
from pipeline.frames.types import Frame, Health, Ticket
from pipeline.runtime.capturing import HealthReporter, Tell, keep_capturing
from pipeline.runtime.graph import SOURCE, SourceParts
from pipeline.runtime.link import LinkClosed
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.stream_rows import CHANGED, KEPT, LEFT, REMOVED
from pipeline.runtime.supervision import StageThreads, source_patience_s
from pipeline.runtime.transfer import write_picture
from pipeline.runtime.workers.spec import LOOK_S, Pipe, Told, WorkerSpec
from pipeline.runtime.zmq_link import ControlMessage, HealthReport, Sender, StreamBegun
from pipeline.settings.schema import StreamSettings
from pipeline.settings.sinks import wants_packets
from pipeline.sinks.recording import recorder_room
from pipeline.sources.capture import waits_for_nobody
from pipeline.sources.packets import PacketTarget
from pipeline.sources.rate import Rates, crops_of
from pipeline.wire.packet_sockets import inner_address

LIVE_WAITING: Final = 5  # frames of a live stream: what comes beyond that is stale before it has a slot

TOLD_S: Final = 1.0  # that a report has to be published before frames go on without it
TOLD_LOOK_S: Final = 0.001
ROOM_LOOK_S: Final = 0.005  # between two looks for room that nobody announces

log = structlog.get_logger()


def capture(worker_spec: WorkerSpec, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Capture the part's streams until all have ended or were removed, or the part is told to stop."""
    context = worker_spec.context
    # What ended before an earlier process of this part died has been told, and is not opened again.
    going = [stream for stream in worker_spec.streams if not worker_spec.open_events.is_over(stream.name)]
    captures = [CaptureThread(worker_spec, stream, pulse) for stream in going]

    def stop_all() -> None:
        for each in captures:
            each.stop.set()

    workers = StageThreads(stop_all)
    pipe.send(Told({}))
    for each in captures:
        each.thread = workers.start(f"capture {each.name}", each.run)
    while any(each.busy for each in captures):
        time.sleep(LOOK_S)
        for each in captures:
            each.look()
        if context.frames.is_shut(context.number):
            stop_all()
            if not workers.join(source_patience_s(worker_spec.streams)):
                log.warning("sources did not end and are left behind", threads=workers.running())
                break
    if workers.failure is not None:
        raise workers.failure


class CaptureThread:
    """The capture of one stream, in a thread of its own, which ``look`` ends when the stream is removed or changed."""

    def __init__(self, worker_spec: WorkerSpec, settings: StreamSettings, pulse: Pulse) -> None:
        self.name, self.stop = settings.name, threading.Event()
        self.thread: threading.Thread | None = None
        self._spec, self._settings, self._pulse = worker_spec, settings, pulse
        self._streams = worker_spec.context.frames.streams
        self._admission: Admission | None = None
        self._asked_s: float | None = None  # time.monotonic() when it was noticed that the stream is to go
        self._left = False  # behind, since its source hangs

    @property
    def busy(self) -> bool:
        """Whether there is something to wait for."""
        return self.thread is not None and self.thread.is_alive() and not self._left

    def look(self) -> None:
        """See whether the stream is to be captured on."""
        if not self.busy or self._streams.wanted(self.name) not in (REMOVED, CHANGED):
            return
        self.stop.set()
        now = time.monotonic()
        self._asked_s = self._asked_s or now
        if now - self._asked_s > source_patience_s([self._settings]):
            log.warning("sources did not end and are left behind", threads=[f"capture {self.name}"])
            self._left = True
            if self._admission is not None:
                self._admission.close_door()
                self._leave(self._admission)

    def run(self) -> None:
        """Capture until the stream ends or is stopped."""
        with closing(Admission(self._spec, self._settings)) as admission:
            self._admission = admission
            if self._spec.added:
                admission.begin()
            if self._streams.wanted(self.name) == KEPT:
                self._tell_crash(admission)
                frames_of = partial(self._frames_of, admission)
                dropped, tell = admission.dropped, admission.reporter.tell
                keep_capturing(self._settings, frames_of, admission.put, dropped, tell, self.stop, self._pulse)
            if not self._left:
                self._leave(admission)

    def _tell_crash(self, admission: "Admission") -> None:
        """Tell that the stream was down: a process that was killed could not."""
        if self._spec.restarts and self._streams.state(self.name).state == "up":
            admission.reporter.tell(Health(self.name, "down", "its capture process died", time.time_ns()))

    def _frames_of(self, admission: "Admission", health: Tell) -> Iterator[Frame]:
        frames = self._spec.context.frames
        base, seen = frames.seen(self.name)  # by an earlier capture that crashed
        parts = SourceParts(
            settings=self._settings,
            rates=self._rates,
            source=None,
            stop=self.stop,
            health=health,
            seen=seen,
            base=base,
            over=lambda: self.stop.is_set() or admission.reporter.over,
            more={"room_bytes": frames.layout.slot_bytes, "lost": admission.lost} | self._packets(),
        )
        return SOURCE.make(parts)(iter(()))

    def _rates(self) -> Rates:
        tuning = self._streams.tuning()
        rate, fps = self._streams.rate(self.name), tuning["inference.fps"]
        crops = crops_of(self._settings, self._spec.config.inference)
        return Rates(fps if rate is None else rate, tuning["inference.min_rate_hz"], crops)

    def _packets(self) -> dict[str, PacketTarget]:
        config = self._spec.config
        if not wants_packets(config):
            return {}
        return {"packets": PacketTarget(inner_address(self._spec.context.folder), config.packets)}

    def _leave(self, admission: "Admission") -> None:
        """Tell that the stream was removed or changed, if it was, and that this was told."""
        wanted = self._streams.wanted(self.name)
        if wanted not in (REMOVED, CHANGED):
            return
        if not self._spec.open_events.is_over(self.name):
            admission.reporter.end(*(("ended", "removed") if wanted == REMOVED else ("down", "changed")))
        self._streams.want(self.name, LEFT)


class Admission:
    """Puts a stream's frames into the ring and sends them on; a file waits for room, a live stream drops."""

    def __init__(self, worker_spec: WorkerSpec, stream: StreamSettings) -> None:
        self._me, self._ring, self._stream = worker_spec.context.number, worker_spec.context.frames, stream.name
        self._settings = stream
        self._waits = not waits_for_nobody(stream)
        self._wakeup = worker_spec.wakeups.get(stream.name)  # none for what was added: it looks again and again
        files = sum(not waits_for_nobody(each) for each in worker_spec.config.streams)
        self._backlog = backlog(files, worker_spec.config.inference.max_batch)
        # A recorder that is slower than a file must not end up with all slots: live streams need some.
        room = 2 * self._backlog + recorder_room(len(worker_spec.config.streams))
        self._recorded = worker_spec.config.record.directory is not None
        self._most = room if self._recorded else None
        self._claimed: Ticket | None = None  # for a frame that was not sent on yet
        context, plan = worker_spec.context, worker_spec.context.plan
        self._frames: Sender[Frame] = Sender(context, plan.reader(SOURCE.writes))
        # Its shard hears of it before who publishes does.
        self._reports: Sender[Frame] = Sender(context, plan.readers("inferred")[self._ring.streams.shard(stream.name)])
        self.reporter = HealthReporter(stream.name, self._ring, self._publish)
        self._shut = False
        self._lock = threading.Lock()  # held while a frame is counted, so that none is once it is shut

    def put(self, frame: Frame) -> None:
        """Send a frame on, or drop it."""
        ticket = self._wait_for_room() if self._waits else self._claim(LIVE_WAITING, None)
        if ticket is None:
            self._miss("stale")
            return
        self._claimed = ticket
        if frame.between and not self._recorded:  # nobody looks at it, so it is not copied
            picture = replace(frame.picture, planes=())
        else:
            picture = write_picture(frame.picture, self._ring, ticket)
        self._frames.put(replace(frame, picture=picture, ticket=ticket))
        self._claimed = None

    def _wait_for_room(self) -> Ticket:
        """A slot, once there is one; also when the run is stopped, since what is on its way is still finished."""
        while (ticket := self._claim(self._backlog, self._most)) is None:
            if self._wakeup is None:
                time.sleep(ROOM_LOOK_S)
            else:
                self._wakeup.wait(LOOK_S)
        return ticket

    def _claim(self, most_waiting: int, most: int | None) -> Ticket | None:
        with self._lock:
            if self._shut:
                raise LinkClosed
            return self._ring.claim(self._me, self._stream, most_waiting, most)

    def _miss(self, cause: str, count: int = 1) -> None:
        with self._lock:
            if not self._shut:
                self._ring.miss(self._stream, cause, count)

    def close_door(self) -> None:
        """Take and count no frame any more: the source hung when the stream was removed."""
        with self._lock:
            self._shut = True

    def lost(self, count: int, cause: str) -> None:
        """Count frames that the source has and does not give."""
        self._miss(cause, count)

    def dropped(self, frame: Frame, cause: str) -> None:
        """Count a frame that was not sent on, and give its slot back if it had one."""
        if self._claimed is None:
            self._miss(cause)
        else:
            self._ring.release(self._me, [self._claimed], cause)
            self._claimed = None

    def _publish(self, report: Health) -> None:
        self._say(HealthReport(report, self._ring.of(self._stream)))

    def begin(self) -> None:
        """Tell who publishes of a stream that it may not know, or not by these settings."""
        self._say(StreamBegun(self._settings))

    def _say(self, message: ControlMessage) -> None:
        reported = self._ring.reported(self._stream)
        self._reports.tell(message)
        # The frames that follow take another way, and must not be told before it.
        patience = time.monotonic() + TOLD_S
        while self._ring.reported(self._stream) == reported and time.monotonic() < patience:
            time.sleep(TOLD_LOOK_S)

    def close(self) -> None:
        """What was put is still sent."""
        self._frames.close()
        self._reports.close()
