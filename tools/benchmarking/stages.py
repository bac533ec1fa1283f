"""Decoding and preprocessing, each alone, as the pipeline does them."""

import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from itertools import cycle, islice
from typing import Final

import msgspec

from engines.errors import SourceError
from pipeline.frames.types import Batch, Frame
from pipeline.inference.preprocess import preprocess
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from tools.benchmarking.clip import STREAM
from tools.benchmarking.figures import REPEATS, Spread, measure

PICTURES: Final = 32  # to scale in turn: more than fits in a cache, as when each comes fresh from the decoder


class DecodeFigures(msgspec.Struct, frozen=True):
    """Files into frames, as fast as it goes, a frame of each in turn."""

    frames: int
    frames_per_s: Spread  # with as many threads as the decoder likes
    cpu_ms_per_frame: Spread  # all threads of the decoder together
    frames_per_s_per_core: Spread


class PreprocessFigures(msgspec.Struct, frozen=True):
    """Decoded planes into the letterboxed input of the frame entry, one frame at a time."""

    frames: int
    width: int  # of the network's input, pixels
    height: int
    ms_per_frame: Spread
    cpu_ms_per_frame: Spread
    frames_per_s_per_core: Spread


def measure_decode(sources: Sequence[str], seconds: float, repeats: int = REPEATS) -> DecodeFigures:
    """Capture files over and over.

    Raises:
        SourceError: no picture can be decoded from one of them.
    """
    with _in_turn(sources) as frames:
        windows = measure(partial(next, frames), seconds, repeats)
    return DecodeFigures(
        frames=sum(window.frames for window in windows),
        frames_per_s=Spread.of(window.per_s for window in windows),
        cpu_ms_per_frame=Spread.of(window.cpu_ms for window in windows),
        frames_per_s_per_core=Spread.of(window.per_core for window in windows),
    )


def measure_preprocess(
    sources: Sequence[str], size: tuple[int, int], seconds: float, repeats: int = REPEATS
) -> PreprocessFigures:
    """Letterbox the first pictures of files, in turn, into ``size`` = (height, width).

    Raises:
        SourceError: no picture can be decoded from one of them.
    """
    with _in_turn(sources) as frames:
        batches = [Batch((frame,), time.monotonic_ns()) for frame in islice(frames, PICTURES)]
    windows = measure(partial(next, preprocess(cycle(batches), size)), seconds, repeats)
    return PreprocessFigures(
        frames=sum(window.frames for window in windows),
        width=size[1],
        height=size[0],
        ms_per_frame=Spread.of(1e3 / window.per_s for window in windows),
        cpu_ms_per_frame=Spread.of(window.cpu_ms for window in windows),
        frames_per_s_per_core=Spread.of(window.per_core for window in windows),
    )


@contextmanager
def _in_turn(sources: Sequence[str]) -> Generator[Generator[Frame, None, None], None, None]:
    """A frame of each file after the other, for ever."""
    with ExitStack() as opened:
        files = [opened.enter_context(closing(_frames(source))) for source in sources]
        yield (next(frames) for frames in cycle(files))


def _frames(source: str) -> Generator[Frame, None, None]:
    settings = StreamSettings(name=STREAM, source=source, loop=True)
    yield from capture(settings, stop=threading.Event(), health=lambda report: None)
    raise SourceError(f"--source is {source!r}, which ended: no picture can be decoded from it")
