"""The whole pipeline from frames in memory, beside its engine alone: where an engine is fast, decoding hides it."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import count, cycle, islice

import msgspec

from engines.spec import load_model
from pipeline.frames.types import Frame, Health
from pipeline.inference.stage import open_entry
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from tools.benchmarking.clip import RATE
from tools.benchmarking.engine import measure_throughput, random_pictures
from tools.benchmarking.figures import REPEATS, WARM_UP_SHARE, Spread
from tools.benchmarking.pipeline import PipelineFigures, summarise_runs
from tools.benchmarking.setup import Setup
from tools.benchmarking.watch import Watched, watch


class PredecodedReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is left of the engine's speed once everything but decoding stands around it."""

    streams: int
    held: int  # frames of each stream, played over and over
    preprocess: str  # where pictures are scaled: "cpu" or "gpu"
    throughput: PipelineFigures
    engine_batch: int  # pictures: the largest batch that the pipeline forms
    engine_per_s: Spread  # pictures, alone, in such batches and as many under way as it likes, after each run
    ratio_to_engine: float  # of the frames/s: the median of the repeats
    ratio_to_engine_repeats: Spread


def measure_predecoded(
    setup: Setup,
    streams: int,
    held: int,
    seconds: float,
    repeats: int = REPEATS,
    tell: Callable[[str], None] = lambda text: None,
) -> PredecodedReport:
    """Run all stages but decoding ``repeats`` times for ``seconds`` together, as fast as they go.

    After each run its engine is measured alone, for as long, so that both have the same noise of the machine.

    Args:
        setup: what to run; stages must be threads.
        streams: how many at once.
        held: frames of each that are decoded before and kept in memory.
        seconds: measured of runs, and as long of the engine.
        repeats: runs.
        tell: hears what is run.

    Raises:
        TrunklineError: as :func:`tools.benchmarking.watch.watch`.
    """
    share_s = seconds / repeats
    config = setup.config(streams, "fast")
    batch = config.inference.max_batch
    runs: list[Watched] = []
    alone: list[float] = []
    with open_entry(load_model(setup.model.path), "frame", setup.model) as engine:
        pictures = random_pictures(engine, batch)
        for number in range(repeats):
            tell(f"pipeline from memory, {number + 1} of {repeats}")
            runs.append(watch(config, WARM_UP_SHARE * seconds, share_s, source=partial(from_memory, held)))
            tell(f"its engine alone, {number + 1} of {repeats}")
            (window,) = measure_throughput(engine, pictures, share_s, repeats=1)
            alone.append(batch * len(window.laps_ms) / window.seconds)
    return summarise_predecoded(streams, held, config.inference.preprocess, runs, batch, alone)


def summarise_predecoded(
    streams: int, held: int, preprocess: str, runs: Sequence[Watched], batch: int, alone: Sequence[float]
) -> PredecodedReport:
    """The report of runs, and of their engine's pictures a second alone after each."""
    throughput = summarise_runs("fast", runs)
    ratios = [reached / most for reached, most in zip(throughput.frames_per_s.values, alone, strict=True)]
    return PredecodedReport(
        streams=streams,
        held=held,
        preprocess=preprocess,
        throughput=throughput,
        engine_batch=batch,
        engine_per_s=Spread.of(alone),
        ratio_to_engine=Spread.of(ratios).median,
        ratio_to_engine_repeats=Spread.of(ratios),
    )


def from_memory(
    held: int,
    settings: StreamSettings,
    *,
    stop: threading.Event,
    health: Callable[[Health], None],
    first_seq: int = 0,
    room_bytes: int | None = None,
    lost: Callable[[int, str], None] | None = None,
) -> Iterator[Frame]:
    """As :func:`pipeline.sources.capture.capture`, but the first ``held`` frames of a file, repeated until ``stop``."""
    with closing(capture(settings, stop=stop, health=health, room_bytes=room_bytes, lost=lost)) as frames:
        pictures = [frame.picture for frame in islice(frames, held)]
    for seq, picture in zip(count(first_seq), cycle(pictures), strict=False):
        if stop.is_set():
            return
        yield Frame(settings.name, seq, time.time_ns(), time.monotonic_ns(), seq / RATE, picture)
