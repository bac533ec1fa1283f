"""The infer process: the frame entry."""

from collections.abc import Iterable, Iterator
from typing import Any

from engines.spec import load_model
from pipeline.inference import Started, collect, open_entry, open_planes, room_between, start, start_planes
from pipeline.links import QueueLink
from pipeline.parts.part import FINISH, PREPARE, Opened, Part, Pipe, drop
from pipeline.pulse import Pulse
from pipeline.supervision import Workers, supervise
from pipeline.types import Frame, Inferred, Prepared, Ticket
from pipeline.zmq_link import Inlet, Outlet


def infer(part: Part, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Run the frame entry until nothing more comes."""
    place, config = part.place, part.config
    model = load_model(config.model.path)
    inputs: dict[Ticket, Ticket] = {}  # the slot of a frame, and that of its batch

    def noted(batches: Iterable[Prepared]) -> Iterator[Prepared]:
        for batch in batches:
            inputs.update((_ticket(frame), _ticket(batch)) for frame in batch.frames)
            yield batch

    def dropped(frame: Frame, cause: str) -> None:
        drop(place, frame, cause)
        batch = inputs.pop(_ticket(frame), None)
        if batch is not None:
            place.inputs.release(place.number, [batch])  # the first frame of a batch does it for all

    with open_entry(model, "frame", config.model) as engine:
        planes_engine = open_planes(engine) if config.inference.preprocess == "gpu" else None
        inlet, outlet = Inlet[Prepared](place), Outlet[Inferred](place, FINISH)
        feedback = Outlet[Frame](place, PREPARE)

        def put(item: Inferred) -> None:
            feedback.tell(item.ran(engine.depth))
            outlet.put(item)
            for frame in item.frames:
                del inputs[_ticket(frame)]

        pipe.send(Opened({"backend": engine.backend, "precision": engine.precision}))
        started = QueueLink[Started](room_between(engine))

        def stage(batches: Iterator[Prepared]) -> Iterator[Started]:
            mine = noted(batches)
            return start(mine, engine) if planes_engine is None else start_planes(mine, planes_engine)

        def start_all() -> None:
            supervise("infer", stage, inlet.__iter__, started.put, dropped, pulse)
            started.finish()

        workers = Workers(started.finish)
        workers.start("start", start_all)
        supervise("infer", collect, started.__iter__, put, dropped, pulse)
        workers.join()
        if workers.failure is not None:
            raise workers.failure
        outlet.close()
        feedback.discard()


def _ticket(item: Frame | Prepared) -> Ticket:
    assert item.ticket is not None, "it is not in shared memory"
    return item.ticket
