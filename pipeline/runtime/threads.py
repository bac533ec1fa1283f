"""The stages as threads of one process (``links = "queue"``), joined by bounded queues."""

import threading
import time
from functools import partial
from typing import Any, Final, Literal

import structlog

from engines.errors import ConfigError, StageError
from pipeline.batching.batcher import Batcher
from pipeline.frames.counters import FrameCounters, await_last_frame
from pipeline.frames.types import Frame, Health, Inferred, Result
from pipeline.inference.stage import room_between
from pipeline.runtime.graph import STEPS, Stage
from pipeline.runtime.link import FrameLink, LinkClosed, QueueLink
from pipeline.runtime.parts import Parts
from pipeline.runtime.postprocess import Postprocessor
from pipeline.runtime.stream_capture import StreamCapture
from pipeline.runtime.streams import Attached
from pipeline.runtime.summary import FileEnd, Summary, file_end
from pipeline.runtime.supervision import HURRY_S, StageThreads, source_patience_s, supervise
from pipeline.settings.schema import StreamSettings
from pipeline.sinks.video import Recording
from pipeline.sources.capture import Capture, mode
from pipeline.sources.packets import PacketTarget
from pipeline.wire.build import health_message

log = structlog.get_logger()

BATCHES_WAITING: Final = 1  # before the engine and behind it: one is filled while one runs
STOP_NOTICED_S = 0.2  # after so long at the most
DRAIN_S = 10.0  # that frames on their way have to finish once a run is stopped
LAST_BATCH_S = 10.0  # that a stage may be busy with what it holds once the rest was given up


class Pipeline:
    """The streams of one run, a thread for each stage of :data:`pipeline.runtime.graph.STEPS`, and their links.

    Args:
        parts: all that the stages need, opened.
        stop: ends the run.
        source: what gives the frames of each stream; None: what its settings name.
    """

    def __init__(self, parts: Parts, stop: threading.Event, source: Capture | None = None) -> None:
        assert parts.publisher is not None and parts.frame_engine is not None
        self.config, self.parts, self.stop, self.source = parts.config, parts, stop, source
        self.publisher, self.frame_engine = parts.publisher, parts.frame_engine
        self.counters = FrameCounters()
        self.postprocessor = Postprocessor(
            self.config, parts.model, self.publisher, self.counters, parts.face_engine, parts.gallery
        )
        parts.postprocessor = self.postprocessor
        self.recording = self._recording()
        self.frames = FrameLink(self._batcher(), self._dropped, tuple(stream.name for stream in self.config.streams))
        # Only that one ever drops a frame.
        self.queues: dict[str, QueueLink[Any]] = {
            stage.writes: QueueLink(self._room(stage)) for stage in STEPS if stage.writes != "results"
        }
        self.sources = StageThreads(self._give_up)
        self.workers = StageThreads(self._give_up)  # the stages
        self._streams: dict[str, StreamCapture] = {}
        self._ends: dict[str, FileEnd] = {}
        self._names = dict.fromkeys(stream.name for stream in self.config.streams)  # those removed since, too
        self._changing = threading.Lock()  # held while a stream is added, changed or removed

    def _batcher(self) -> Batcher[Frame]:
        inference = self.config.inference
        modes = {stream.name: mode(stream) for stream in self.config.streams}
        return Batcher(modes, inference.max_batch, round(inference.max_queue_delay_ms * 1e6))

    def _recording(self) -> Recording | None:
        if self.parts.recorder is None:
            return None
        modes = {stream.name: mode(stream) for stream in self.config.streams}
        live = [name for name, each in modes.items() if each == "freshest"]
        recording = Recording(self.parts.recorder, tuple(modes), live)
        self.publisher.count("record", recording)
        return recording

    def _room(self, stage: Stage) -> int:
        return room_between(self.frame_engine) if stage.writes == "started" else BATCHES_WAITING

    # The way of a frame: its stream's thread captures it, then it goes from stage to stage.

    def admit(self, frame: Frame) -> None:
        """Take a captured frame; waits for room."""
        if self.recording is not None:
            self.recording.await_room(frame.stream)
        self.frames.put(frame)

    def _run_stage(self, stage: Stage) -> None:
        incoming = self.frames.batches if stage.reads == "frames" else self.queues[str(stage.reads)].__iter__
        supervise(stage.called, stage.make(self.parts), incoming, partial(self._hand_on, stage), self._dropped)
        if stage.writes != "results":
            self.queues[stage.writes].finish()
        elif self.recording is not None:
            self.recording.finish()

    def _hand_on(self, stage: Stage, item: Any) -> None:
        if stage.paces is not None:
            assert isinstance(item, Inferred)
            self.frames.ran(item.ran(self.frame_engine.depth))
        if stage.writes == "results":
            self._finished(item)
        else:
            self.queues[stage.writes].put(item)

    def _finished(self, result: Result) -> None:
        if self.recording is not None:
            self.recording.take(result, self.postprocessor.counts(result.frame.stream))
        self.counters.published(result.frame.stream)

    # Beginning and end.

    def run(self, attached: Attached) -> Summary:
        """Start all threads and wait until every frame is accounted for; streams may be changed while ``attached``."""
        began = time.monotonic()
        if self.recording is not None:
            self.workers.start("record", self.recording.run)
        for stage in reversed(STEPS):
            self.workers.start(stage.name, partial(self._run_stage, stage))
        with self._changing:
            for stream in self.config.streams:
                self._start(stream)
        try:
            with attached(self):
                while not self.workers.join(STOP_NOTICED_S):
                    if self.stop.is_set():
                        self._drain()
            if (failure := self.sources.failure or self.workers.failure) is not None:
                raise failure
        except BaseException:
            self._give_up()
            self.workers.join(HURRY_S)
            self.sources.join(HURRY_S)
            self.postprocessor.end()
            raise
        self._say_stopped()
        return self._summary(time.monotonic() - began)

    def _drain(self) -> None:
        """The run was stopped: frames on their way are finished, unless that takes too long."""
        self.frames.close()
        captures = self._stop_sources()
        if not self.sources.join(source_patience_s(capture.settings for capture in captures)):
            log.warning("sources did not end and are left behind", threads=self.sources.running())
            for capture in captures:
                self.frames.finish(capture.settings.name)
        if not self.workers.join(DRAIN_S):
            log.warning("frames given up", after_s=DRAIN_S)
            self._give_up()
            if not self.workers.join(LAST_BATCH_S):
                raise StageError(f"threads hang, and the run cannot end: {', '.join(self.workers.running())}")
        self._drop(self.frames.abandon())  # what a source gives from here on is not taken
        self.sources.join(HURRY_S)

    def _stop_sources(self) -> tuple[StreamCapture, ...]:
        captures = tuple(self._streams.values())
        for capture in captures:
            capture.stop.set()
        return captures

    def _give_up(self) -> None:
        """Break all links; what they hold is counted as dropped."""
        self.stop.set()
        self._stop_sources()
        self._drop(self.frames.abandon())
        for link in self.queues.values():
            for item in link.abandon():
                self._drop(item.frames)
        if self.recording is not None:
            self.recording.abandon()

    def _drop(self, frames: tuple[Frame, ...]) -> None:
        for frame in frames:
            self._dropped(frame, "shutdown")

    def _dropped(self, frame: Frame, cause: str) -> None:
        self.counters.dropped(frame.stream, cause)

    # Streams.

    def streams(self) -> tuple[StreamSettings, ...]:
        """Those that were not removed."""
        return tuple(capture.settings for capture in tuple(self._streams.values()))

    def add(self, settings: StreamSettings) -> None:
        """Capture one stream more; see :class:`pipeline.service.control.Control`."""
        with self._changing:
            self._begin(settings)

    def change(self, settings: StreamSettings) -> None:
        """Capture a stream by other settings."""
        with self._changing:
            before = self._streams[settings.name]
            self.postprocessor.check(settings)
            self._end(before, "down", "changed")
            self._begin(settings)

    def remove(self, name: str) -> None:
        """Capture a stream no longer; returns when its last frame and its end were told."""
        with self._changing:
            self._end(self._streams[name], "ended", "removed")

    def _begin(self, settings: StreamSettings) -> None:
        self.postprocessor.check(settings)
        if self.stop.is_set():
            raise ConfigError(f"stream {settings.name!r} cannot be added: the run is over")
        try:
            self.frames.add(settings.name, mode(settings))
        except LinkClosed:
            raise ConfigError(f"stream {settings.name!r} cannot be added: the run is over") from None
        self.postprocessor.begin(settings)
        if self.recording is not None:
            self.recording.begin(settings, mode(settings) == "freshest")
        self._names[settings.name] = None
        self._start(settings)
        self.frames.expect(False)

    def _start(self, settings: StreamSettings) -> None:
        hub = self.parts.packets
        packets = None if hub is None else PacketTarget(hub.inner, self.config.packets)
        capture = StreamCapture(settings, self.config.inference, self.source, self.counters, self, packets)
        self._streams[settings.name] = capture
        capture.thread = self.sources.start(f"capture {settings.name}", partial(self._capture, capture))

    def _capture(self, capture: StreamCapture) -> None:
        if self.stop.is_set():
            capture.stop.set()
        try:
            capture.run()
        finally:
            if self._streams.get(capture.settings.name) is capture:
                self.frames.finish(capture.settings.name)

    def _end(self, capture: StreamCapture, state: Literal["down", "ended"], cause: str) -> None:
        """Let a stream's frames finish, tell of its end, and forget it."""
        name = capture.settings.name
        if len(self._streams) == 1:
            self.frames.expect(True)  # a run that has no stream left waits for others
        capture.stop.set()
        assert capture.thread is not None
        capture.thread.join(source_patience_s([capture.settings]))
        if capture.thread.is_alive():
            log.warning("sources did not end and are left behind", threads=[capture.thread.name])
        capture.close()
        self.frames.finish(name)
        if not capture.ended:
            self.tell(capture, Health(name, state, cause, time.time_ns()))
        del self._streams[name]
        self._drop(self.frames.remove(name))
        self.postprocessor.forget(name)

    def tell(self, capture: StreamCapture, report: Health) -> None:
        """Log and publish what happened to a stream; that it is lost or over is told after its last frame."""
        if report.state != "up":
            await_last_frame(self.counters, report.stream)
        capture.ended = capture.ended or report.state == "ended"
        log.info("stream " + report.state, stream=report.stream, cause=report.cause)
        self._ends |= file_end(report)
        self._send_health(report)

    def _say_stopped(self) -> None:
        """The last word on the streams that the run's stop ended."""
        for capture in tuple(self._streams.values()):
            if not capture.ended:
                self._send_health(Health(capture.settings.name, "ended", "the run was stopped", time.time_ns()))

    def _send_health(self, report: Health) -> None:
        self.postprocessor.reported(report)
        self.publisher.send(health_message(report, self.counters.of(report.stream)))

    def _summary(self, seconds: float) -> Summary:
        identifier = self.postprocessor.identifier
        return Summary(
            seconds=seconds,
            streams={name: self.counters.of(name) for name in self._names},
            stages_ms=self.postprocessor.times.summary(),
            batches=self.postprocessor.times.batches(),
            skipped=self.postprocessor.times.skipped,
            backend=self.frame_engine.backend,
            precision=self.frame_engine.precision,
            face_runs=identifier.runs if identifier else 0,
            face_crops=identifier.crops if identifier else 0,
            left_out=self.recording.left_out if self.recording else None,
            ends=dict(self._ends),
        )
