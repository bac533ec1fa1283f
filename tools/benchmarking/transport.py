"""Frames from one process to another: a copy into shared memory, a ticket over ZeroMQ."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count
from multiprocessing.process import BaseProcess
from typing import Final

import msgspec
import numpy as np

from engines.arrays import Plane
from engines.errors import StageError
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame
from pipeline.runtime.ring import Layout, Ring
from pipeline.runtime.transfer import write_picture
from pipeline.runtime.wakeup import Wakeup
from pipeline.runtime.zmq_link import Receiver, Sender, WorkerContext
from tools.benchmarking.figures import REPEATS, Spread, measure
from tools.benchmarking.processes import child, usage

SIZE: Final = (1920, 1080)  # width, height, where no source says another
PICTURES: Final = 16  # written in turn: more than fits in a cache, as when each comes fresh from the decoder
SLOTS: Final = 12
WRITER, READER = 0, 1
SAMPLED: Final = 4096  # bytes from one that is compared to the next: every page is read from
ROOM_S: Final = 0.5  # between two looks whether the reader still lives, while no slot is free
PATIENCE_S: Final = 60.0  # for a process to start
MISREAD: Final = 3  # exit status

Samples = list[Plane]  # of each plane


class TransportFigures(msgspec.Struct, frozen=True):
    """YUV 4:2:0 frames through a ring, a sample of each compared with what was sent."""

    width: int
    height: int
    frames: int
    frames_per_s: Spread
    gigabytes_per_s: Spread
    writer_cpu_ms_per_frame: Spread
    reader_cpu_ms_per_frame: Spread


def measure_transport(size: tuple[int, int], seconds: float, repeats: int = REPEATS) -> TransportFigures:
    """Send pictures of ``size`` (width, height) to another process as fast as it takes them.

    Raises:
        ConfigError: there is too little shared memory.
        StageError: the other process died, or got a wrong picture.
    """
    pictures = _pictures(size)
    with _writer(pictures) as writer:
        for _ in range(SLOTS + 1):  # until no slot is free, and the first that is again: then the reader has started
            writer.send()
        windows, reader_cpu_ms = [], []
        for _ in range(repeats):
            sent, cpu_s = writer.sent, writer.reader_cpu_s
            windows += measure(writer.send, seconds / repeats, repeats=1)
            reader_cpu_ms.append(1e3 * (writer.reader_cpu_s - cpu_s) / (writer.sent - sent))
    return TransportFigures(
        width=size[0],
        height=size[1],
        frames=sum(window.frames for window in windows),
        frames_per_s=Spread.of(window.per_s for window in windows),
        gigabytes_per_s=Spread.of(window.per_s * pictures[0].nbytes / 1e9 for window in windows),
        writer_cpu_ms_per_frame=Spread.of(window.cpu_ms for window in windows),
        reader_cpu_ms_per_frame=Spread.of(reader_cpu_ms),
    )


class _Writer:
    """The sending end."""

    def __init__(self, pictures: Sequence[Picture], context: WorkerContext, room: Wakeup, reader: BaseProcess) -> None:
        self._pictures = pictures
        self._context = context
        self._room = room
        self._reader = reader
        self._sender: Sender[Frame] = Sender(context, READER)
        self.sent = 0

    @property
    def reader_cpu_s(self) -> float:
        """CPU time of the reading process so far."""
        assert self._reader.pid is not None
        return usage(self._reader.pid).cpu_s

    def send(self) -> None:
        """Copy the next picture into a slot, waiting for one, and hand it over."""
        ring, picture = self._context.frames, self._pictures[self.sent % PICTURES]
        end_s = time.monotonic() + PATIENCE_S
        while (ticket := ring.claim(WRITER)) is None:
            self._room.wait(ROOM_S)
            if not self._reader.is_alive() or time.monotonic() > end_s:
                self._refuse()
        stored = write_picture(picture, ring, ticket)
        self._sender.put(Frame("made", self.sent, time.time_ns(), time.monotonic_ns(), 0.0, stored, ticket))
        self.sent += 1

    def finish(self) -> None:
        """Let the reader finish; StageError if it saw something wrong."""
        self._context.frames.shut(READER)
        self._sender.close()
        self._reader.join(PATIENCE_S)
        if self._reader.exitcode != 0:
            self._refuse()

    def _refuse(self) -> None:
        raise StageError(
            "a frame arrived in the other process with other pixels than it was sent with"
            if self._reader.exitcode == MISREAD
            else "the process that frames are sent to takes none"
        )


@contextmanager
def _writer(pictures: Sequence[Picture]) -> Iterator[_Writer]:
    samples = [_sample(picture) for picture in pictures]
    with (
        closing(Ring.create(Layout(SLOTS, pictures[0].nbytes), f"{SLOTS} frames")) as frames,
        closing(Ring.create(Layout(1, 1), "one byte", frames.lock)) as inputs,  # no network here
        closing(Wakeup()) as room,
        tempfile.TemporaryDirectory(prefix="trunkline-") as folder,
        child(_read, WorkerContext(READER, frames, inputs, folder), samples, room) as reader,
    ):
        writer = _Writer(pictures, WorkerContext(WRITER, frames, inputs, folder), room, reader)
        yield writer
        writer.finish()


def _read(context: WorkerContext, samples: Sequence[Samples], room: Wakeup) -> None:
    receiver: Receiver[Frame] = Receiver(context)
    for number, frame in zip(count(), receiver, strict=False):
        assert frame.ticket is not None
        there = zip(_sample(frame.picture), samples[number % PICTURES], strict=True)
        if frame.seq != number or not all(np.array_equal(one, other) for one, other in there):
            raise SystemExit(MISREAD)
        context.frames.release(READER, [frame.ticket])
        room.ring()
    receiver.close()


def _sample(picture: Picture) -> Samples:
    return [plane.reshape(-1)[::SAMPLED].copy() for plane in picture.planes]


def _pictures(size: tuple[int, int]) -> list[Picture]:
    (width, height), random = size, np.random.default_rng(0)
    chroma = (height + 1) // 2, (width + 1) // 2
    shapes = (height, width), chroma, chroma
    planes = [tuple(random.integers(0, 256, shape, np.uint8) for shape in shapes) for _ in range(PICTURES)]
    return [Picture(made, width=width, height=height) for made in planes]
