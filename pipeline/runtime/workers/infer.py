"""The infer process: the frame entry."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from pipeline.frames.types import Frame, Inferred, Prepared, Ticket
from pipeline.inference.stage import Started, room_between
from pipeline.runtime.graph import needs_of
from pipeline.runtime.link import QueueLink
from pipeline.runtime.parts import open_parts
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.shape import model_of
from pipeline.runtime.sharding import split
from pipeline.runtime.supervision import StageThreads, supervise
from pipeline.runtime.workers.spec import Pipe, Told, WorkerSpec, drop
from pipeline.runtime.zmq_link import Receiver, Sender


def infer(worker_spec: WorkerSpec, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Run the frame entry until nothing more comes."""
    context, config = worker_spec.context, worker_spec.config
    model = model_of(config)
    inputs: dict[Ticket, Ticket] = {}  # the slot of a frame, and that of its batch

    def noted(batches: Iterable[Prepared]) -> Iterator[Prepared]:
        for batch in batches:
            inputs.update((_ticket(frame), _ticket(batch)) for frame in batch.frames)
            yield batch

    def dropped(frame: Frame, cause: str) -> None:
        drop(context, frame, cause)
        batch = inputs.pop(_ticket(frame), None)
        if batch is not None:
            context.inputs.release(context.number, [batch])  # the first frame of a batch does it for all

    starting, collecting = context.plan.stages_of("infer")
    with ExitStack() as opened:
        parts = open_parts(config, model, needs_of((starting, collecting)), opened)
        engine = parts.frame_engine
        assert engine is not None and collecting.paces is not None
        receiver = Receiver[Prepared](context)
        senders = [Sender[Inferred](context, number) for number in context.plan.readers(collecting.writes)]
        feedback = Sender[Frame](context, context.plan.reader(collecting.paces))

        def put(item: Inferred) -> None:
            feedback.tell(item.ran(engine.depth))
            parts_of_it = split(item, len(senders), context.frames.streams.shard)
            for left, (shard, part) in zip(reversed(range(len(parts_of_it))), parts_of_it, strict=True):
                senders[shard].put(part, more=left > 0)
            for frame in item.frames:
                del inputs[_ticket(frame)]

        pipe.send(Told({"backend": engine.backend, "precision": engine.precision}))
        started = QueueLink[Started](room_between(engine))
        start, collect = starting.make(parts), collecting.make(parts)

        def start_all() -> None:
            supervise(
                starting.called,
                lambda batches: start(noted(batches)),
                receiver.__iter__,
                started.put,
                dropped,
                pulse,
            )
            started.finish()

        workers = StageThreads(started.finish)
        workers.start("start", start_all)
        supervise(collecting.called, collect, started.__iter__, put, dropped, pulse)
        workers.join()
        if workers.failure is not None:
            raise workers.failure
        for sender in senders:
            sender.close()
        feedback.discard()


def _ticket(item: Frame | Prepared) -> Ticket:
    assert item.ticket is not None, "it is not in shared memory"
    return item.ticket
