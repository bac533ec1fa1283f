"""The stages as threads of one process (``links = "queue"``), joined by bounded queues."""

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final, Literal

import structlog

from engines.errors import ConfigError, StageError
from pipeline.frames.counters import FrameCounters
from pipeline.frames.types import Frame, Health, Inferred, Result
from pipeline.identity.face_entry import FACE_CROPS, FACE_RUNS, FaceQueue
from pipeline.inference.stage import room_between
from pipeline.runtime.event_publisher import EventPublisher
from pipeline.runtime.graph import FACES, STEPS, Stage, chained
from pipeline.runtime.link import FrameLink, LinkClosed, QueueLink
from pipeline.runtime.parts import Parts
from pipeline.runtime.postprocess import Postprocessor
from pipeline.runtime.reading import Reading, StreamReading
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.sharding import choose_shard, shard_count, split
from pipeline.runtime.stream_capture import StreamCapture
from pipeline.runtime.streams import REMOVED_CAUSE, Attached, check_records
from pipeline.runtime.summary import FileEnd, Summary, file_end
from pipeline.runtime.supervision import HURRY_S, StageThreads, source_patience_s, supervise
from pipeline.settings.schema import Config, StreamSettings, Switch
from pipeline.sinks.recording import Recording
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
        held: no stream is begun but those that are added, and the run goes on until it is stopped.
    """

    def __init__(self, parts: Parts, stop: threading.Event, source: Capture | None = None, held: bool = False) -> None:
        assert parts.publisher is not None and parts.frame_engine is not None and parts.crops is not None
        self.config, self.parts, self.stop, self.source = parts.config, parts, stop, source
        self.publisher, self.frame_engine = parts.publisher, parts.frame_engine
        self._held, self._first = held, () if held else self.config.streams
        self.counters = FrameCounters()
        self.events = EventPublisher(self.publisher, self.counters, parts.model.spec, self.config)
        self._modes = {stream.name: mode(stream) for stream in self._first}
        self._shard_of: dict[str, int] = {}  # of every stream there ever was: track numbers of a name go on
        self.shards = [
            Postprocessor(self.config, parts.model, parts.faces, gallery, self._is_live, saw=parts.crops.saw)
            for gallery in parts.galleries or (None,) * shard_count(self.config)
        ]
        parts.event_publisher = self.events
        self._off: set[tuple[str, Switch]] = set()
        self.recording = self._recording()
        self.frames = FrameLink(self.config.inference, self._modes, self._dropped, self.config.frames_per_batch)
        self.frames.expect(held)
        # Only that one ever drops a frame. What a shard reads has a queue for each.
        self.queues: dict[str, list[QueueLink[Any]]] = {}
        for stage in STEPS:
            if stage.reads != "frames" and not stage.joined:
                count = len(self.shards) if stage.each == "shard" else 1
                self.queues[str(stage.reads)] = [QueueLink(self._room(stage)) for _ in range(count)]
        self.sources = StageThreads(self._give_up)
        self.workers = StageThreads(self._give_up)  # the stages
        self._at_work = len(self.shards)  # those that are not done
        self._counting = threading.Lock()  # held while one of them is done
        self._streams: dict[str, StreamCapture] = {}
        self._ends: dict[str, FileEnd] = {}
        self._names = dict.fromkeys(stream.name for stream in self._first)  # those removed since, too
        self._changing = threading.Lock()  # held while a stream is added, changed or removed

    def _is_live(self, stream: str) -> bool:
        return self._modes[stream] == "freshest"

    def _recording(self) -> Recording | None:
        if self.parts.recorder is None:
            return None
        live = list(filter(self._is_live, self._modes))
        wanted = partial(self.is_on, what="record")
        recording = Recording(self.parts.recorder, tuple(self._modes), live, wanted=wanted)
        self.publisher.count("record", recording)
        return recording

    def _room(self, stage: Stage) -> int:
        return room_between(self.frame_engine) if stage.reads == "started" else BATCHES_WAITING

    # The way of a frame: its stream's thread captures it, then it goes from stage to stage.

    def admit(self, frame: Frame) -> None:
        """Take a captured frame; waits for room."""
        if self.recording is not None:
            self.recording.await_room(frame.stream)
        self.frames.put(frame)

    def _run_stages(self, stages: Sequence[Stage], parts: Parts, shard: int = 0) -> None:
        first, last = stages[0], stages[-1]
        incoming = self.frames.batches if first.reads == "frames" else self.queues[str(first.reads)][shard].__iter__
        supervise(first.called, chained(stages, parts), incoming, partial(self._hand_on, last), self._dropped)
        for link in self.queues.get(last.writes, ()):
            link.finish()
        if last.writes == "messages":
            self._shard_done()

    def _hand_on(self, stage: Stage, item: Any) -> None:
        if stage.paces is not None:
            assert isinstance(item, Inferred)
            self.frames.ran(item.ran(self.frame_engine.depth))
        if stage.writes == "messages":
            self._finished(item)
        elif stage.writes == "inferred":
            for shard, part in split(item, len(self.shards), self._shard_of.__getitem__):
                self.queues["inferred"][shard].put(part)
        else:
            self.queues[stage.writes][0].put(item)

    def _shard_done(self) -> None:
        with self._counting:
            self._at_work -= 1
            if self._at_work:
                return
        if self.recording is not None:
            self.recording.finish()
        if self.parts.faces is not None:
            self.parts.faces.close()

    def _run_faces(self, faces: FaceQueue) -> None:
        supervise(FACES.called, FACES.make(self.parts), faces.batches, lambda batch: None, self._dropped)

    def _finished(self, result: Result) -> None:
        if self.recording is not None:
            self.recording.take(result, self.events.counts(result.frame.stream))
        self.counters.published(result.frame.stream)

    # Beginning and end.

    def run(self, attached: Attached) -> Summary:
        """Start all threads and wait until every frame is accounted for; streams may be changed while ``attached``."""
        began = time.monotonic()
        if self.recording is not None:
            self.workers.start("record", self.recording.run)
        if self.parts.faces is not None:
            self.workers.start(FACES.name, partial(self._run_faces, self.parts.faces))
        self._start_stages()
        with self._changing:
            for stream in self._first:
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
            self.events.end_all("stopped")
            raise
        for capture in tuple(self._streams.values()):
            capture.end("ended", "the run was stopped")
        return self._summary(time.monotonic() - began)

    def _start_stages(self) -> None:
        """A thread for each stage, with those that are joined to it; one of each shard."""
        threads: list[list[Stage]] = []
        for stage in STEPS:
            threads[-1].append(stage) if stage.joined else threads.append([stage])
        for stages in reversed(threads):
            if stages[0].each != "shard":
                self.workers.start(stages[0].name, partial(self._run_stages, stages, self.parts))
                continue
            for shard, postprocessor in enumerate(self.shards):
                parts = replace(self.parts, postprocessor=postprocessor)
                self.workers.start(f"{stages[0].name} {shard}", partial(self._run_stages, stages, parts, shard))

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
        for link in itertools.chain(*self.queues.values()):
            for item in link.abandon():
                self._drop(item.frames)
        if self.parts.faces is not None:
            self.parts.faces.close()
        if self.recording is not None:
            self.recording.abandon()

    def _drop(self, frames: tuple[Frame, ...]) -> None:
        for frame in frames:
            self._dropped(frame, "shutdown")

    def _dropped(self, frame: Frame, cause: str) -> None:
        self.counters.dropped(frame.stream, cause)

    # See pipeline.runtime.streams.Streams.

    def streams(self) -> tuple[StreamSettings, ...]:
        return tuple(capture.settings for capture in tuple(self._streams.values()))

    def reading(self) -> Reading:
        waiting = {name: sum(link.waiting for link in links) for name, links in self.queues.items()}
        return Reading(
            {
                stream.name: StreamReading(self.counters.of(stream.name), self.counters.state(stream.name))
                for stream in self.streams()
            },
            {"frames": self.frames.waiting} | waiting,
            self.events.times_so_far(),
            self.publisher.counts,
        )

    def note(self, name: str, what: Switch, on: bool) -> None:
        if what == "record":
            check_records(self.config)
        (self._off.discard if on else self._off.add)((name, what))

    def is_on(self, name: str, what: Switch) -> bool:
        return (name, what) not in self._off

    def add(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        with self._changing:
            self._begin(settings, resumed)

    def change(self, settings: StreamSettings) -> None:
        with self._changing:
            before = self._streams[settings.name]
            self.events.check(settings)
            self._end(before, "down", "changed")
            self._begin(settings)

    def set_rate(self, settings: StreamSettings) -> None:
        with self._changing:
            self._streams[settings.name].settings = settings

    def configured(self) -> Config:
        return self.config

    def tune(self, config: Config) -> None:
        self.config = config
        for shard in self.shards:
            shard.tune(config)

    def remove(self, name: str) -> None:
        with self._changing:
            self._end(self._streams[name], "ended", REMOVED_CAUSE)
            if self.recording is not None:
                self.recording.forget(name)

    def _begin(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        self.events.check(settings)
        if self.stop.is_set():
            raise ConfigError(f"stream {settings.name!r} cannot be added: the run is over")
        self._modes[settings.name] = mode(settings)
        try:
            self.frames.add(settings.name, mode(settings))
        except LinkClosed:
            raise ConfigError(f"stream {settings.name!r} cannot be added: the run is over") from None
        self.events.begin(settings, None if resumed is None else resumed.lines)
        self.publisher.begin(settings)
        if self.recording is not None:
            self.recording.begin(settings, mode(settings) == "freshest")
        self._names[settings.name] = None
        self._start(settings, resumed)
        self.frames.expect(self._held)

    def _start(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        if settings.name not in self._shard_of:
            others = [(self._shard_of[name], self._is_live(name)) for name in self._streams]
            self._shard_of[settings.name] = choose_shard(len(self.shards), self._is_live(settings.name), others)
        if resumed is not None:
            self.counters.count_on(settings.name, resumed.counts)
            self.shards[self._shard_of[settings.name]].resume(settings.name, resumed.restarts)
        hub = self.parts.packets
        packets = None if hub is None else PacketTarget(hub.inner, self.config.packets)
        capture = StreamCapture(
            settings,
            lambda: self.config.inference,
            self.source,
            self.counters,
            self.admit,
            self._send_health,
            packets,
            None if resumed is None else resumed.base,
        )
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
        self.frames.finish(name)
        capture.end(state, cause)
        del self._streams[name]
        self._drop(self.frames.remove(name))
        self.shards[self._shard_of[name]].forget(name)
        self.events.forget(name)

    def _send_health(self, report: Health) -> None:
        if report.state != "up":
            self.shards[self._shard_of[report.stream]].lose(report.stream)
        self.events.reported(report)
        self._ends |= file_end(report)
        self.publisher.send(health_message(report, self.counters.of(report.stream)))
        self.counters.told(report.stream, report.state)

    def _summary(self, seconds: float) -> Summary:
        faces, times = self.parts.faces, self.events.times
        return Summary(
            seconds=seconds,
            streams={name: self.counters.of(name) for name in self._names},
            stages_ms=times.summary(),
            batches=times.batches(),
            skipped=times.skipped,
            backend=self.frame_engine.backend,
            precision=self.frame_engine.precision,
            face_runs=int(faces.counts[FACE_RUNS]) if faces else 0,
            face_crops=int(faces.counts[FACE_CROPS]) if faces else 0,
            left_out=self.recording.left_out if self.recording else None,
            ends=dict(self._ends),
        )
