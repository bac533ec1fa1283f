"""The finish process: all after the engine, to the message and the recording."""

import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from engines.spec import load_model
from pipeline.frames.types import Health, Inferred, Result, Ticket
from pipeline.runtime.event_publisher import settle
from pipeline.runtime.graph import needs_of, stages_of
from pipeline.runtime.parts import open_parts
from pipeline.runtime.postprocess import Postprocessor
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.stream_rows import REMOVED
from pipeline.runtime.summary import FileEnd, file_end
from pipeline.runtime.supervision import StageThreads, supervise
from pipeline.runtime.workers.spec import Done, Opened, Pipe, WorkerSpec, drop
from pipeline.runtime.zmq_link import ControlMessage, HealthReport, Receiver, StreamBegun
from pipeline.settings.schema import StreamSettings
from pipeline.sinks.fan_out import Sinks
from pipeline.sinks.video import Recorder, Recording
from pipeline.sources.capture import waits_for_nobody
from pipeline.wire.build import health_message


def postprocess(worker_spec: WorkerSpec, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Turn the engine's outputs into messages until nothing more comes."""
    context, config = worker_spec.context, worker_spec.config
    model = load_model(config.model.path)
    with ExitStack() as opened:
        (stage,) = stages_of("finish")
        parts = open_parts(config, model, needs_of((stage,)), opened, context.folder)
        publisher = parts.publisher
        assert publisher is not None
        postprocessor = parts.postprocessor = Postprocessor(
            config,
            model,
            publisher,
            context.frames,
            parts.face_engine,
            parts.gallery,
            worker_spec.restarts,
            worker_spec.open_events,
        )
        ending = Ending(worker_spec, publisher, parts.recorder, postprocessor)
        receiver = Receiver[Inferred](context, ending.heard)
        pipe.send(Opened({"address": publisher.address}))
        settle(publisher, worker_spec.open_events, "crash")
        if worker_spec.restarts == 0:
            stopped = partial(context.frames.is_shut, context.number)
            pipe.send(Opened({"subscribed": publisher.await_subscriber(pipe.recv(), stopped)}))

        step = stage.make(parts)

        def finish(inferred: Iterator[Inferred]) -> Iterator[Result]:
            return step(ending.taken(inferred))

        supervise(stage.called, finish, receiver.__iter__, ending.finished, partial(drop, context), pulse)
        ending.end()
    identifier = postprocessor.identifier
    pipe.send(
        Done(
            {
                "stages_ms": postprocessor.times.summary(),
                "batches": postprocessor.times.batches(),
                "carried": postprocessor.times.skipped,
                "face_runs": identifier.runs if identifier else 0,
                "face_crops": identifier.crops if identifier else 0,
                "left_out": ending.left_out,
                "ends": ending.ends,
                "sinks": publisher.counts,
            }
        )
    )


class Ending:
    """The last steps of a frame: its message is out, it may be recorded, and its slots are given back."""

    def __init__(
        self, worker_spec: WorkerSpec, publisher: Sinks, recorder: Recorder | None, postprocessor: Postprocessor
    ) -> None:
        self._postprocessor, self._wakeups = postprocessor, worker_spec.wakeups
        self._context, self._room, self._publisher = worker_spec.context, worker_spec.room, publisher
        self._open_events = worker_spec.open_events
        self._known = {stream.name: stream for stream in worker_spec.config.streams}
        self.ends: dict[str, FileEnd] = {}
        self._recording: Recording | None = None
        self._recorder = StageThreads(lambda: None)  # it tells of its failures itself
        if recorder is not None:
            live = [stream.name for stream in worker_spec.config.streams if waits_for_nobody(stream)]
            self._recording = Recording(recorder, tuple(self._known), live, self._give_back)
            publisher.count("record", self._recording)
            self._recorder.start("record", self._recording.run)

    def taken(self, inferred: Iterable[Inferred]) -> Iterator[Inferred]:
        """Give the network's input back: its outputs are here."""
        for item in inferred:
            if item.prepared.ticket is not None:
                self._context.inputs.release(self._context.number, [item.prepared.ticket])
                self._room.ring()
            yield item

    def finished(self, result: Result) -> None:
        """A frame's message was sent."""
        if self._recording is None:
            self._give_back(result)
            return
        counts = self._postprocessor.counts(result.frame.stream)
        self._context.frames.published(self._context.number, _ticket(result))
        self._recording.take(result, counts)

    @property
    def left_out(self) -> dict[str, int] | None:
        """How many frames the recording has not, by stream; None: there is none."""
        return None if self._recording is None else self._recording.left_out

    def _give_back(self, result: Result) -> None:
        self._context.frames.release(self._context.number, [_ticket(result)])
        if self._recording is not None and result.frame.stream in self._wakeups:
            self._wakeups[result.frame.stream].ring()  # a file may wait for the slot

    def heard(self, message: ControlMessage) -> None:
        """Publish what happened to a stream, or take note of one."""
        match message:
            case StreamBegun(settings):
                self._begin(settings)
                self._context.frames.tell(settings.name)
            case HealthReport(report, account):
                self._postprocessor.reported(report)
                self._publisher.send(health_message(report, account))
                self.ends |= file_end(report)
                if report.state == "ended":
                    self._end(report.stream)
                self._context.frames.tell(report.stream)

    def _begin(self, settings: StreamSettings) -> None:
        """A stream was added or changed, which this process may know from the configuration if it was started since."""
        if self._known.get(settings.name) != settings:
            self._postprocessor.forget(settings.name)
            self._open_events.forget(settings.name)
            self._postprocessor.begin(settings)
            if self._recording is not None:
                self._recording.begin(settings, waits_for_nobody(settings))
            self._known[settings.name] = settings

    def _end(self, stream: str) -> None:
        self._open_events.over(stream)
        if self._context.frames.streams.wanted(stream) == REMOVED:
            self._postprocessor.forget(stream)
            self._open_events.forget(stream)
            self._known.pop(stream, None)

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
