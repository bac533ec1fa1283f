"""The prepare process: batches across streams, and the network's input."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.frames.types import Batch, BatchTiming, CropsSeen, Frame, Prepared, Ticket
from pipeline.inference.views import CropChoices
from pipeline.runtime.link import FrameLink
from pipeline.runtime.parts import Parts
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.ring import Ring
from pipeline.runtime.shape import model_of
from pipeline.runtime.stream_rows import LEFT
from pipeline.runtime.supervision import StageThreads, supervise
from pipeline.runtime.wakeup import Wakeup
from pipeline.runtime.workers.spec import LOOK_S, Pipe, Told, WorkerSpec, drop
from pipeline.runtime.zmq_link import ControlMessage, Receiver, Sender


class Inputs:
    """The slot of the network's input that is filled next."""

    def __init__(self, ring: Ring, me: int, room: Wakeup) -> None:
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

    def send(self, prepared: Prepared, sender: Sender[Prepared]) -> None:
        """Send a batch on with the slot, which is free again when that fails."""
        ticket = self._ticket
        assert ticket is not None
        self._ticket = None
        try:
            sender.put(replace(prepared, ticket=ticket))
        except BaseException:
            self._ring.release(self._me, [ticket])
            raise


def prepare(worker_spec: WorkerSpec, pipe: "Pipe[Any, Any]", pulse: Pulse) -> None:
    """Form batches and letterbox them until nothing more comes."""
    context, config = worker_spec.context, worker_spec.config
    me, ring = context.number, context.frames
    (preprocessing,) = context.plan.stages_of("prepare")
    streams = ring.streams
    modes = {name: streams.mode(name) for name in streams.names if streams.wanted(name) != LEFT}
    link = FrameLink(config.inference, modes, partial(drop, context), config.frames_per_batch)
    slots = Inputs(context.inputs, me, worker_spec.room)
    crops = CropChoices()
    parts = Parts(config, model_of(config), array=slots.array, crops=crops)
    sender: Sender[Prepared] = Sender(context, context.plan.reader(preprocessing.writes))

    def heard(message: ControlMessage) -> None:
        match message:
            case BatchTiming():
                link.ran(message)
            case CropsSeen():
                crops.saw(message)

    def receive() -> None:
        for frame in Receiver[Frame](context, heard):
            if modes.get(frame.stream) != (mode := streams.mode(frame.stream)):  # it was added or changed meanwhile
                for stale in link.remove(frame.stream) if frame.stream in modes else ():
                    drop(context, stale, "shutdown")
                link.add(frame.stream, mode)
                modes[frame.stream] = mode
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
            for name in {frame.stream for frame in batch.frames} & worker_spec.wakeups.keys():
                worker_spec.wakeups[name].ring()
            yield batch

    step = preprocessing.make(parts)

    def stage(items: Iterator[Batch]) -> Iterator[Prepared]:
        return step(gathered(items))

    def give_up() -> None:
        for frame in link.abandon():
            drop(context, frame, "crash")

    workers = StageThreads(give_up)
    workers.start("receive", receive)
    pipe.send(Told({}))
    send, dropped = partial(slots.send, sender=sender), partial(drop, context)
    supervise(preprocessing.called, stage, batches, send, dropped, pulse)
    sender.close()
    if workers.failure is not None:
        raise workers.failure
