"""Decoding and preprocessing, each alone, as the pipeline does them."""

import threading
import time
from collections.abc import Generator
from contextlib import closing
from functools import partial
from itertools import cycle, islice
from typing import Final

import msgspec

from engines.errors import SourceError
from pipeline.capture import capture
from pipeline.config import StreamSettings
from pipeline.metrics import Accounts
from pipeline.preprocess import preprocess
from pipeline.types import Batch, Frame
from tools.benchmarking.clip import STREAM
from tools.benchmarking.figures import Spread, Window, measure

PICTURES: Final = 32  # to scale in turn: more than fits in a cache, as when each comes fresh from the decoder


class DecodeFigures(msgspec.Struct, frozen=True):
    """A file into frames, as fast as it goes."""

    frames: int
    frames_per_s: Spread
    cpu_ms_per_frame: Spread  # all threads of the decoder together


class PreprocessFigures(msgspec.Struct, frozen=True):
    """Decoded planes into the letterboxed input of the frame entry, one frame at a time."""

    frames: int
    width: int  # of the network's input, pixels
    height: int
    ms_per_frame: Spread
    cpu_ms_per_frame: Spread


def measure_decode(source: str, seconds: float) -> DecodeFigures:
    """Capture a file over and over.

    Raises:
        SourceError: no picture can be decoded from it.
    """
    with closing(_frames(source)) as frames:
        windows = measure(partial(next, frames), seconds)
    return DecodeFigures(
        frames=_count(windows),
        frames_per_s=Spread.of([len(window.laps_ms) / window.seconds for window in windows]),
        cpu_ms_per_frame=_cpu_ms_per_frame(windows),
    )


def measure_preprocess(source: str, size: tuple[int, int], seconds: float) -> PreprocessFigures:
    """Letterbox the first pictures of a file, in turn, into ``size`` = (height, width).

    Raises:
        SourceError: no picture can be decoded from it.
    """
    with closing(_frames(source)) as frames:
        batches = [Batch((frame,), time.monotonic_ns()) for frame in islice(frames, PICTURES)]
    windows = measure(partial(next, preprocess(cycle(batches), size)), seconds)
    return PreprocessFigures(
        frames=_count(windows),
        width=size[1],
        height=size[0],
        ms_per_frame=Spread.of([1e3 * window.seconds / len(window.laps_ms) for window in windows]),
        cpu_ms_per_frame=_cpu_ms_per_frame(windows),
    )


def _frames(source: str) -> Generator[Frame, None, None]:
    """Frames of a file, for ever."""
    settings = StreamSettings(name=STREAM, source=source, loop=True)
    yield from capture(settings, stop=threading.Event(), accounts=Accounts(), health=lambda report: None)
    raise SourceError(f"--source is {source!r}, which ended: no picture can be decoded from it")


def _count(windows: list[Window]) -> int:
    return sum(len(window.laps_ms) for window in windows)


def _cpu_ms_per_frame(windows: list[Window]) -> Spread:
    return Spread.of([1e3 * window.cpu_seconds / len(window.laps_ms) for window in windows])
