"""The finish process: results become messages and recordings; a single shard's postprocessing is in it, too."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from pipeline.frames.types import Carrier, Health, Result, Ticket
from pipeline.runtime.asking import AskedSwitches, locked
from pipeline.runtime.event_publisher import EventPublisher, settle
from pipeline.runtime.graph import FACES, chained, needs_of
from pipeline.runtime.parts import open_parts
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.shape import model_of
from pipeline.runtime.stream_rows import REMOVED
from pipeline.runtime.summary import file_end
from pipeline.runtime.supervision import StageThreads, supervise
from pipeline.runtime.workers.postprocess import Shard
from pipeline.runtime.workers.spec import Done, Pipe, Told, WorkerSpec, drop
from pipeline.runtime.zmq_link import ControlMessage, HealthReport, Receiver, ShardRestarted, StreamBegun
from pipeline.settings.schema import StreamSettings
from pipeline.sinks.fan_out import Sinks
from pipeline.sinks.recording import Recording
from pipeline.sinks.video import Recorder
from pipeline.sources.capture import waits_for_nobody
from pipeline.wire.build import health_message

TELL_S: Final = 1.0  # between two words to who serves metrics


def finish(worker_spec: WorkerSpec, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Turn results, or a single shard's outputs of the engine, into messages until nothing more comes."""
    context, config = worker_spec.context, worker_spec.config
    stages, alone = context.plan.stages_of("finish"), context.plan.shards == 1
    with ExitStack() as opened:
        model = model_of(config)
        needs = needs_of((*stages, FACES) if alone else stages)
        parts = open_parts(config, model, needs, opened, folder=context.folder, books=worker_spec.books)
        publisher = parts.publisher
        assert publisher is not None
        say = locked(pipe)
        switches = AskedSwitches(pipe, say, context.frames.streams)
        publisher.attach(switches)
        events = parts.event_publisher = EventPublisher(
            publisher, context.frames, model.spec, config, worker_spec.open_events, worker_spec.books.batches
        )
        ending = Ending(worker_spec, publisher, parts.recorder, events)
        shard = Shard(worker_spec, 0, model, parts, ending.heard, pulse) if alone else None
        receiver = Receiver[Carrier](context, ending.heard if shard is None else shard.heard)
        say(Told({"address": publisher.address}))
        settle(publisher, worker_spec.open_events, "crash")
        if worker_spec.restarts == 0:
            stopped = partial(context.frames.is_shut, context.number)
            patience_s = pipe.recv()
            say(Told({"subscribed": publisher.await_subscriber(patience_s, stopped)}))
        switches.listen()
        step = chained(stages, parts)
        with _telling(say, events, publisher, wanted=config.metrics.address is not None):
            supervise(
                stages[0].called,
                step if shard is None else lambda items: step(shard.taken(items)),
                receiver.__iter__,
                ending.finished,
                partial(drop, context),
                pulse,
            )
        if shard is not None:
            shard.end()
        ending.end()
    say(Done({"stages_ms": events.times.summary(), "sinks": publisher.counts}))


@contextmanager
def _telling(say: Callable[[object], None], events: EventPublisher, publisher: Sinks, wanted: bool) -> Iterator[None]:
    """Let the first process hear, every TELL_S, how long frames took and what became of messages."""
    over = threading.Event()

    def tell() -> None:
        with suppress(OSError):  # the first process is gone, and this one ends with it
            while not over.wait(TELL_S):
                say(Told({"times": events.times_so_far(), "sinks": publisher.counts}))

    thread = threading.Thread(target=tell, name="metrics", daemon=True)
    if wanted:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if wanted:
            thread.join()  # nothing of it comes after the last word


class Ending:
    """The last steps of a frame: its message is out, it may be recorded, and its slots are given back."""

    def __init__(
        self, worker_spec: WorkerSpec, publisher: Sinks, recorder: Recorder | None, events: EventPublisher
    ) -> None:
        self._events, self._wakeups = events, worker_spec.wakeups
        self._context, self._publisher = worker_spec.context, publisher
        self._open_events = worker_spec.open_events
        self._known = {stream.name: stream for stream in worker_spec.config.streams}
        self._books = worker_spec.books
        self._recording: Recording | None = None
        self._recorder = StageThreads(lambda: None)  # it tells of its failures itself
        if recorder is not None:
            live = [stream.name for stream in worker_spec.config.streams if waits_for_nobody(stream)]
            wanted = partial(self._context.frames.streams.is_on, what="record")
            self._recording = Recording(
                recorder, tuple(self._known), live, self._give_back, wanted, publisher.record_book, self._recorded
            )
            publisher.count("record", self._recording)
            self._recorder.start("record", self._recording.run)

    def finished(self, result: Result) -> None:
        """A frame's message was sent."""
        if self._recording is None:
            self._give_back(result)
            return
        counts = self._events.counts(result.frame.stream)
        self._context.frames.published(self._context.number, _ticket(result))
        self._recording.take(result, counts)

    def _recorded(self, stream: str) -> npt.NDArray[np.int64]:
        row: npt.NDArray[np.int64] = self._books.recorded[self._context.frames.streams.row(stream)]
        return row

    def _give_back(self, result: Result) -> None:
        self._context.frames.release(self._context.number, [_ticket(result)])
        if self._recording is not None and result.frame.stream in self._wakeups:
            self._wakeups[result.frame.stream].ring()  # a file may wait for the slot

    def heard(self, message: ControlMessage) -> None:
        """Publish what happened to a stream, or note that one was added or has lost its tracks."""
        match message:
            case StreamBegun(settings):
                self._begin(settings)
                self._context.frames.tell(settings.name)
            case HealthReport(report, account):
                self._events.reported(report)
                self._publisher.send(health_message(report, account))
                for stream, end in file_end(report).items():
                    self._books.end(self._context.frames.streams.row(stream), end)
                if report.state == "ended":
                    self._end(report.stream)
                self._context.frames.tell(report.stream, report.state)
            case ShardRestarted(shard):
                for stream in self._known:
                    if self._context.frames.streams.shard(stream) == shard:
                        self._events.end(stream, "crash")

    def _begin(self, settings: StreamSettings) -> None:
        """A stream was added or changed, which this process may know from the configuration if it was started since."""
        if self._known.get(settings.name) != settings:
            self._events.forget(settings.name)
            self._open_events.forget(settings.name)
            self._events.begin(settings)
            self._publisher.begin(settings)
            if self._recording is not None:
                self._recording.begin(settings, waits_for_nobody(settings))
            self._known[settings.name] = settings

    def _end(self, stream: str) -> None:
        self._open_events.over(stream)
        if self._context.frames.streams.wanted(stream) == REMOVED:
            self._events.forget(stream)
            self._open_events.forget(stream)
            self._known.pop(stream, None)
            if self._recording is not None:
                self._recording.forget(stream)

    def end(self) -> None:
        """The last word on the streams that the run's stop ended."""
        if self._recording is not None:
            self._recording.finish()
            self._recorder.join()
        for name in self._context.frames.streams.names:
            if not self._open_events.is_over(name):
                report = Health(name, "ended", "the run was stopped", time.time_ns())
                self.heard(HealthReport(report, self._context.frames.of(name)))


def _ticket(result: Result) -> Ticket:
    ticket = result.frame.ticket
    assert ticket is not None, "the frame is not in shared memory"
    return ticket
