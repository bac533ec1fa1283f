"""The stages as threads of one process (``links = "queue"``), joined by bounded queues."""

import threading
import time
from collections.abc import Iterator
from functools import partial

import structlog

from engines.engine import Engine
from engines.errors import StageError
from engines.spec import Model
from pipeline.batching.batcher import Batcher
from pipeline.frames.counters import FrameCounters, await_last_frame
from pipeline.frames.types import Batch, Frame, Health, Inferred, Prepared, Result
from pipeline.gallery.gallery import Gallery
from pipeline.inference.preprocess import place_only, preprocess
from pipeline.inference.stage import Started, collect, open_planes, room_between, start, start_planes
from pipeline.runtime.capturing import Tell, keep_capturing
from pipeline.runtime.link import FrameLink, QueueLink
from pipeline.runtime.postprocess import Postprocessor
from pipeline.runtime.summary import Summary
from pipeline.runtime.supervision import HURRY_S, StageThreads, source_patience_s, supervise, until_over
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.fan_out import Sinks
from pipeline.sinks.video import Recorder, Recording
from pipeline.sources.capture import Capture, capture, mode
from pipeline.sources.cuts import mark_cuts
from pipeline.sources.unchanged import mark_unchanged
from pipeline.wire.build import health_message

log = structlog.get_logger()

BATCHES_WAITING = 1  # before the engine and behind it: one is filled while one runs
STOP_NOTICED_S = 0.2  # after so long at the most
DRAIN_S = 10.0  # that frames on their way have to finish once a run is stopped
LAST_BATCH_S = 10.0  # that a stage may be busy with what it holds once the rest was given up


class Pipeline:
    """The stages of one run and the links between them, all opened by :func:`pipeline.service.run.run`."""

    def __init__(
        self,
        config: Config,
        model: Model,
        publisher: Sinks,
        frame_engine: Engine,
        face_engine: Engine | None,
        gallery: Gallery | None,
        recorder: Recorder | None,
        stop: threading.Event,
        source: Capture | None = None,
    ) -> None:
        names = tuple(stream.name for stream in config.streams)
        self.config = config
        self.size = (frame_engine.spec.height, frame_engine.spec.width)
        self.publisher = publisher
        self.frame_engine = frame_engine
        self.planes_engine = open_planes(frame_engine) if config.inference.preprocess == "gpu" else None
        self.stop = stop
        self.source = source or capture
        self.counters = FrameCounters()
        self.ended: set[str] = set()  # streams that said so themselves
        self.postprocessor = Postprocessor(config, model, publisher, self.counters, face_engine, gallery)

        # The links; only the first ever drops a frame.
        modes = {stream.name: mode(stream) for stream in config.streams}
        live = [name for name, each in modes.items() if each == "freshest"]
        self.recording = None if recorder is None else Recording(recorder, names, live)
        if self.recording is not None:
            publisher.count("record", self.recording)
        batcher = Batcher[Frame](modes, config.inference.max_batch, round(config.inference.max_queue_delay_ms * 1e6))
        self.frames = FrameLink(batcher, self._dropped, names)
        self.prepared: QueueLink[Prepared] = QueueLink(BATCHES_WAITING)
        self.started: QueueLink[Started] = QueueLink(room_between(frame_engine))
        self.inferred: QueueLink[Inferred] = QueueLink(BATCHES_WAITING)
        self.sources = StageThreads(self._give_up)
        self.workers = StageThreads(self._give_up)  # the stages

    # The way of a frame: one thread per stream captures, then one thread each prepares, starts
    # inference, waits for it, and does the rest.

    def _capture(self, stream: StreamSettings) -> None:
        def frames_of(health: Tell) -> Iterator[Frame]:
            seen = self.counters.of(stream.name).captured  # by an earlier capture that crashed
            lost = partial(self._lost, stream.name)
            frames = self.source(stream, stop=self.stop, health=health, first_seq=seen, lost=lost)
            marked = mark_cuts(mark_unchanged(frames, self.config.inference))
            return until_over(marked, lambda: self.stop.is_set() or stream.name in self.ended)

        try:
            keep_capturing(stream, frames_of, self._admit, self._dropped, self._tell, self.stop)
        finally:
            self.frames.finish(stream.name)

    def _lost(self, stream: str, count: int) -> None:
        self.counters.captured(stream, count)
        self.counters.dropped(stream, "lost", count)

    def _admit(self, frame: Frame) -> None:
        self.counters.captured(frame.stream)
        if self.recording is not None:
            self.recording.await_room(frame.stream)
        self.frames.put(frame)

    def _prepare(self) -> None:
        def stage(batches: Iterator[Batch]) -> Iterator[Prepared]:
            return preprocess(batches, self.size) if self.planes_engine is None else place_only(batches, self.size)

        supervise("preprocess", stage, self.frames.batches, self.prepared.put, self._dropped)
        self.prepared.finish()

    def _start(self) -> None:
        def stage(prepared: Iterator[Prepared]) -> Iterator[Started]:
            if self.planes_engine is None:
                return start(prepared, self.frame_engine)
            return start_planes(prepared, self.planes_engine)

        supervise("infer", stage, self.prepared.__iter__, self.started.put, self._dropped)
        self.started.finish()

    def _collect(self) -> None:
        supervise("infer", collect, self.started.__iter__, self._ran, self._dropped)
        self.inferred.finish()

    def _ran(self, inferred: Inferred) -> None:
        self.frames.ran(inferred.ran(self.frame_engine.depth))
        self.inferred.put(inferred)

    def _postprocess(self) -> None:
        supervise("postprocess", self.postprocessor.stage, self.inferred.__iter__, self._finished, self._dropped)
        if self.recording is not None:
            self.recording.finish()

    def _finished(self, result: Result) -> None:
        if self.recording is not None:
            self.recording.take(result, self.postprocessor.counts(result.frame.stream))
        self.counters.published(result.frame.stream)

    # Beginning and end.

    def run(self) -> Summary:
        """Start all threads and wait until every frame is accounted for."""
        began = time.monotonic()
        if self.recording is not None:
            self.workers.start("record", self.recording.run)
        self.workers.start("postprocess", self._postprocess)
        self.workers.start("collect", self._collect)
        self.workers.start("start", self._start)
        self.workers.start("preprocess", self._prepare)
        for stream in self.config.streams:
            self.sources.start(f"capture {stream.name}", partial(self._capture, stream))
        try:
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
        if not self.sources.join(source_patience_s(self.config.streams)):
            log.warning("sources did not end and are left behind", threads=self.sources.running())
            for stream in self.config.streams:
                self.frames.finish(stream.name)
        if not self.workers.join(DRAIN_S):
            log.warning("frames given up", after_s=DRAIN_S)
            self._give_up()
            if not self.workers.join(LAST_BATCH_S):
                raise StageError(f"threads hang, and the run cannot end: {', '.join(self.workers.running())}")
        self._drop(self.frames.abandon())  # what a source gives from here on is not taken
        self.sources.join(HURRY_S)

    def _give_up(self) -> None:
        """Break all links; what they hold is counted as dropped."""
        self.stop.set()
        self._drop(self.frames.abandon())
        for link in (self.prepared, self.started, self.inferred):
            for item in link.abandon():
                self._drop(item.frames)
        if self.recording is not None:
            self.recording.abandon()

    def _drop(self, frames: tuple[Frame, ...]) -> None:
        for frame in frames:
            self._dropped(frame, "shutdown")

    def _dropped(self, frame: Frame, cause: str) -> None:
        self.counters.dropped(frame.stream, cause)

    def _tell(self, report: Health) -> None:
        """Log and publish what happened to a stream; that it is lost or over is told after its last frame."""
        if report.state != "up":
            await_last_frame(self.counters, report.stream)
        if report.state == "ended":
            self.ended.add(report.stream)
        log.info("stream " + report.state, stream=report.stream, cause=report.cause)
        self._send_health(report)

    def _say_stopped(self) -> None:
        """The last word on the streams that the run's stop ended."""
        for stream in self.config.streams:
            if stream.name not in self.ended:
                self._send_health(Health(stream.name, "ended", "the run was stopped", time.time_ns()))

    def _send_health(self, report: Health) -> None:
        self.postprocessor.reported(report)
        self.publisher.send(health_message(report, self.counters.of(report.stream)))

    def _summary(self, seconds: float) -> Summary:
        identifier = self.postprocessor.identifier
        return Summary(
            seconds=seconds,
            streams={stream.name: self.counters.of(stream.name) for stream in self.config.streams},
            stages_ms=self.postprocessor.times.summary(),
            batches=self.postprocessor.times.batches(),
            skipped=self.postprocessor.times.skipped,
            backend=self.frame_engine.backend,
            precision=self.frame_engine.precision,
            face_runs=identifier.runs if identifier else 0,
            face_crops=identifier.crops if identifier else 0,
            left_out=self.recording.left_out if self.recording else None,
        )
