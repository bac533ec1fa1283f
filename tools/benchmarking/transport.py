"""Frames from one process to another: a copy into shared memory, a ticket over ZeroMQ."""

import multiprocessing
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from multiprocessing.process import BaseProcess
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engines.errors import StageError
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame
from pipeline.runtime.ring import Layout, Ring
from pipeline.runtime.transfer import write_picture
from pipeline.runtime.wakeup import Wakeup
from pipeline.runtime.zmq_link import Receiver, Sender, WorkerContext
from tools.benchmarking.figures import REPEATS, Spread, measure
from tools.benchmarking.processes import usage

SIZE: Final = (1920, 1080)  # width, height, where no source says another
PICTURES: Final = 16  # written in turn: more than fits in a cache, as when each comes fresh from the decoder
SLOTS: Final = 12
WRITER, READER = 0, 1
SEED: Final = 0
SAMPLED: Final = 4096  # bytes from one that is compared to the next: every page is read from
ROOM_S: Final = 0.5  # between two looks whether the reader still lives, while no slot is free
PATIENCE_S: Final = 60.0  # for a process to start
MISREAD: Final = 3  # exit status

Samples = tuple[npt.NDArray[np.uint8], ...]  # of each plane


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
    with _reader(pictures) as writer:
        writer.fill()
        windows, reader_cpu_ms = [], []
        for _ in range(repeats):
            sent, cpu_s = writer.sent, writer.reader_cpu_s
            windows += measure(writer.send, seconds / repeats, repeats=1)
            reader_cpu_ms.append(1e3 * (writer.reader_cpu_s - cpu_s) / (writer.sent - sent))
    rates = [len(window.laps_ms) / window.seconds for window in windows]
    return TransportFigures(
        width=size[0],
        height=size[1],
        frames=sum(len(window.laps_ms) for window in windows),
        frames_per_s=Spread.of(rates),
        gigabytes_per_s=Spread.of([rate * pictures[0].nbytes / 1e9 for rate in rates]),
        writer_cpu_ms_per_frame=Spread.of([1e3 * window.cpu_seconds / len(window.laps_ms) for window in windows]),
        reader_cpu_ms_per_frame=Spread.of(reader_cpu_ms),
    )


class Writer:
    """The sending end."""

    def __init__(self, pictures: Sequence[Picture], context: WorkerContext, room: Wakeup, reader: BaseProcess) -> None:
        self._pictures = pictures
        self._context = context
        self._room = room
        self._reader = reader
        self._outlet: Sender[Frame] = Sender(context, READER)
        self.sent = 0

    @property
    def reader_cpu_s(self) -> float:
        """CPU time of the reading process so far."""
        assert self._reader.pid is not None
        return usage(self._reader.pid).cpu_s

    def fill(self) -> None:
        """Send until no slot is free, and wait for the first that is again: then the reader has started."""
        for _ in range(SLOTS + 1):
            self.send()

    def send(self) -> None:
        """Copy the next picture into a slot, waiting for one, and hand it over."""
        ring, picture = self._context.frames, self._pictures[self.sent % PICTURES]
        end_s = time.monotonic() + PATIENCE_S
        while (ticket := ring.claim(WRITER)) is None:
            self._room.wait(ROOM_S)
            if not self._reader.is_alive() or time.monotonic() > end_s:
                self._refuse()
        stored = write_picture(picture, ring, ticket)
        self._outlet.put(Frame("made", self.sent, time.time_ns(), time.monotonic_ns(), 0.0, stored, ticket))
        self.sent += 1

    def close(self) -> None:
        """Let the reader finish; StageError if it saw something wrong."""
        self._context.frames.shut(READER)
        self._outlet.close()
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
def _reader(pictures: Sequence[Picture]) -> Iterator[Writer]:
    samples = [_sample(picture) for picture in pictures]
    frames = Ring.create(Layout(SLOTS, pictures[0].nbytes), f"{SLOTS} frames")
    inputs = Ring.create(Layout(1, 1), "one byte", frames.lock)  # no network here
    room = Wakeup()
    with tempfile.TemporaryDirectory(prefix="trunkline-") as folder:
        reader = multiprocessing.get_context("spawn").Process(
            target=_read, args=(WorkerContext(READER, frames, inputs, folder), samples, room), daemon=True
        )
        reader.start()
        try:
            writer = Writer(pictures, WorkerContext(WRITER, frames, inputs, folder), room, reader)
            yield writer
            writer.close()
        finally:
            reader.terminate()
            reader.join()
            for thing in (frames, inputs, room):
                thing.close()


def _read(context: WorkerContext, samples: Sequence[Samples], room: Wakeup) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for whoever started this
    inlet: Receiver[Frame] = Receiver(context)
    for number, frame in zip(count(), inlet, strict=False):
        assert frame.ticket is not None
        there = zip(_sample(frame.picture), samples[number % PICTURES], strict=True)
        if frame.seq != number or not all(np.array_equal(one, other) for one, other in there):
            raise SystemExit(MISREAD)
        context.frames.release(READER, [frame.ticket])
        room.ring()
    inlet.close()


def _sample(picture: Picture) -> Samples:
    return tuple(plane.reshape(-1)[::SAMPLED].copy() for plane in picture.planes)


def _pictures(size: tuple[int, int]) -> list[Picture]:
    width, height = size
    random = np.random.default_rng(SEED)
    chroma = (height + 1) // 2, (width + 1) // 2
    return [
        Picture(
            tuple(random.integers(0, 256, shape, np.uint8) for shape in ((height, width), chroma, chroma)),
            width=width,
            height=height,
        )
        for _ in range(PICTURES)
    ]
