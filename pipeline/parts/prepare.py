"""The prepare process: batches across streams, and the network's input."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.spec import load_model
from pipeline.batching import Batcher
from pipeline.bell import Bell
from pipeline.capture import mode
from pipeline.links import FrameLink
from pipeline.parts.part import INFER, LOOK_S, Opened, Part, Pipe, drop
from pipeline.preprocess import place_only, preprocess
from pipeline.pulse import Pulse
from pipeline.ring import Ring
from pipeline.supervision import Workers, supervise
from pipeline.types import Batch, Frame, Prepared, Ran, Ticket
from pipeline.zmq_link import Inlet, Outlet, Word


class Inputs:
    """The slot of the network's input that is filled next."""

    def __init__(self, ring: Ring, me: int, room: Bell) -> None:
        self._ring, self._me, self._room = ring, me, room
        self._ticket: Ticket | None = None

    def wait(self) -> None:
        """Have a free slot."""
        while self._ticket is None:
            self._ticket = self._ring.claim(self._me)
            if self._ticket is None:
                self._room.wait(LOOK_S)

    def array(self, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
        """The slot's memory, in this shape."""
        assert self._ticket is not None
        return self._ring.pixels(self._ticket)[: int(np.prod(shape))].reshape(shape)

    def send(self, prepared: Prepared, outlet: Outlet[Prepared]) -> None:
        """Send a batch on with the slot, which is free again when that fails."""
        ticket = self._ticket
        assert ticket is not None
        self._ticket = None
        try:
            outlet.put(replace(prepared, ticket=ticket))
        except BaseException:
            self._ring.release(self._me, [ticket])
            raise


def prepare(part: Part, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Form batches and letterbox them until nothing more comes."""
    place, config = part.place, part.config
    me, ring = place.number, place.frames
    spec = load_model(config.model.path).spec.entry("frame")
    modes = {stream.name: mode(stream) for stream in config.streams}
    batcher = Batcher[Frame](modes, config.inference.max_batch, round(config.inference.staleness_ms * 1e6))
    link = FrameLink(batcher, partial(drop, place), tuple(modes))
    slots = Inputs(place.inputs, me, part.room)
    outlet: Outlet[Prepared] = Outlet(place, INFER)

    def heard(word: Word) -> None:
        if isinstance(word, Ran):
            link.ran(word)

    def receive() -> None:
        for frame in Inlet[Frame](place, heard):
            link.put(frame)
        for name in modes:
            link.finish(name)

    def batches() -> Iterator[Batch]:
        slots.wait()  # first: frames that come meanwhile are fresher
        for batch in link.batches():
            yield batch
            slots.wait()

    def gathered(items: Iterator[Batch]) -> Iterator[Batch]:
        for batch in items:
            ring.batched(me, [frame.ticket for frame in batch.frames if frame.ticket])
            for name in {frame.stream for frame in batch.frames} & part.bells.keys():
                part.bells[name].ring()
            yield batch

    def stage(items: Iterator[Batch]) -> Iterator[Prepared]:
        step = place_only if config.inference.preprocess == "gpu" else preprocess
        return step(gathered(items), (spec.height, spec.width), slots.array)

    def give_up() -> None:
        for frame in link.abandon():
            drop(place, frame, "crash")

    workers = Workers(give_up)
    workers.start("receive", receive)
    pipe.send(Opened({}))
    supervise("preprocess", stage, batches, partial(slots.send, outlet=outlet), partial(drop, place), pulse)
    outlet.close()
    if workers.failure is not None:
        raise workers.failure
