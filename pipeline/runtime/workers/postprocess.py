"""The postprocess process: what one shard knows of its streams, from the engine's outputs to results."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

from engines.spec import Model
from pipeline.frames.types import Inferred, Result
from pipeline.runtime.graph import FACES, chained, needs_of
from pipeline.runtime.parts import Parts, open_parts
from pipeline.runtime.postprocess import Postprocessor
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.shape import model_of
from pipeline.runtime.stream_rows import REMOVED
from pipeline.runtime.supervision import StageThreads, supervise
from pipeline.runtime.workers.spec import Done, Pipe, Told, WorkerSpec, drop
from pipeline.runtime.zmq_link import ControlMessage, HealthReport, Receiver, Sender, ShardRestarted, StreamBegun
from pipeline.settings.tuning import tuned, tuning_of


def postprocess(worker_spec: WorkerSpec, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Turn the engine's outputs into results until nothing more comes."""
    context, config = worker_spec.context, worker_spec.config
    stages = context.plan.stages_of("postprocess")
    with ExitStack() as opened:
        model = model_of(config)
        parts = open_parts(config, model, needs_of((*stages, FACES)), opened)
        sender: Sender[Result] = Sender(context, context.plan.finish)
        number = context.number - context.plan.readers("inferred")[0]
        shard = Shard(worker_spec, number, model, parts, sender.tell, pulse)
        receiver = Receiver[Inferred](context, shard.heard)
        if worker_spec.restarts:
            sender.tell(ShardRestarted(number))
        pipe.send(Told({}))
        step = chained(stages, parts)
        supervise(
            stages[0].called,
            lambda items: step(shard.taken(items)),
            receiver.__iter__,
            sender.put,
            partial(drop, context),
            pulse,
        )
        shard.end()
        sender.close()
    pipe.send(Done({}))


class Shard:
    """The streams of one shard, and the thread of its face entry.

    Args:
        worker_spec: of the process.
        shard: its number.
        model: of the run.
        parts: gets the postprocessor.
        pass_on: lets who publishes hear what happened to a stream, once it was taken note of here.
        pulse: of the process.
    """

    def __init__(
        self,
        worker_spec: WorkerSpec,
        shard: int,
        model: Model,
        parts: Parts,
        pass_on: Callable[[ControlMessage], None],
        pulse: Pulse,
    ) -> None:
        self._context, self._room, self._pass_on = worker_spec.context, worker_spec.room, pass_on
        self._streams, self._faces = worker_spec.context.frames.streams, parts.faces
        self._known = {stream.name: stream for stream in worker_spec.config.streams}
        (gallery,) = parts.galleries or (None,)
        context = worker_spec.context
        self._crops: Sender[Inferred] = Sender(context, context.plan.reader("frames"))
        self._postprocessor = parts.postprocessor = Postprocessor(
            worker_spec.config,
            model,
            parts.faces,
            gallery,
            self._streams.is_live,
            worker_spec.restarts,
            self._crops.tell,
        )
        self._config, self._tuning = worker_spec.config, tuning_of(worker_spec.config)
        self._thread = StageThreads(self._close_faces)
        if parts.faces is not None:
            parts.faces.counts = worker_spec.books.faces[shard]
            embed, batches = FACES.make(parts), parts.faces.batches
            dropped = partial(drop, worker_spec.context)
            self._thread.start(
                FACES.name, lambda: supervise(FACES.called, embed, batches, lambda batch: None, dropped, pulse)
            )

    def taken(self, inferred: Iterable[Inferred]) -> Iterator[Inferred]:
        """Give the network's input back: its outputs are here."""
        for item in inferred:
            self._tune()
            if item.prepared.ticket is not None:
                self._context.inputs.release(self._context.number, [item.prepared.ticket])
                self._room.ring()
            if self._thread.failure is not None:
                raise self._thread.failure
            yield item

    def _tune(self) -> None:
        if (tuning := self._streams.tuning()) != self._tuning:
            self._tuning = tuning
            self._postprocessor.tune(tuned(self._config, tuning))

    def heard(self, message: ControlMessage) -> None:
        """Take note of what happened to a stream."""
        match message:
            case StreamBegun(settings) if self._known.get(settings.name) != settings:
                self._postprocessor.forget(settings.name)
                self._known[settings.name] = settings
            case HealthReport(report, _) if report.state != "up":
                self._postprocessor.lose(report.stream)
                if report.state == "ended" and self._streams.wanted(report.stream) == REMOVED:
                    self._postprocessor.forget(report.stream)
                    self._known.pop(report.stream, None)
        self._pass_on(message)

    def end(self) -> None:
        """No frame comes any more."""
        self._crops.discard()
        self._close_faces()
        self._thread.join()

    def _close_faces(self) -> None:
        if self._faces is not None:
            self._faces.close()
