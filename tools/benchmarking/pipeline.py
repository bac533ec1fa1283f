"""The whole pipeline on files: as fast as it goes, held against the limit or its engine, and at the pace of cameras."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import partial
from itertools import count, cycle, islice
from statistics import fmean
from typing import Any, Final, Literal

import msgspec

from engines.engine import Engine
from engines.hardware import usable_cores
from engines.spec import load_model
from pipeline.frames.types import Frame, Health
from pipeline.inference.stage import open_entry
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from tools.benchmarking.clip import RATE
from tools.benchmarking.engine import measure_throughput
from tools.benchmarking.figures import WARM_UP_SHARE, Percentiles, Spread, rounded
from tools.benchmarking.power import GpuFigures
from tools.benchmarking.run import MIB, Links, Setup, Tell, Watched, latency, watch
from tools.benchmarking.stages import measure_decode, measure_preprocess

STEPS: Final = ("total", "queue", "infer", "post")  # of a message's timings
SMALL_SHARE: Final = 0.02  # of the frames: batch sizes that fewer came in are not measured


class FrameCost(msgspec.Struct, frozen=True):
    """CPU milliseconds of a frame in what no pipeline can do without, each measured alone, all threads."""

    decode: float
    scale: float
    engine: float  # at the batch sizes of the run, each as often as it was used
    engine_images_per_s: float | None = None  # where the engine is no part of the CPU, and may be the wall

    @property
    def total(self) -> float:
        return self.decode + self.scale + self.engine

    def frames_per_s(self, cores: int) -> float:
        """Return what so many cores could do, if the engine keeps up."""
        return min(1e3 * cores / self.total, self.engine_images_per_s or math.inf)


class LimitFigures(msgspec.Struct, frozen=True):
    """What this machine could do if decoding, scaling and the engine were all there is, measured after each run.

    Cores divided by the sum of the three, or the speed of an engine on a GPU if that is less.
    """

    cores: int
    batch_mean: float
    decode_cpu_ms: Spread
    scale_cpu_ms: Spread
    engine_cpu_ms: Spread
    frames_per_s: Spread


class MemoryFigures(msgspec.Struct, frozen=True):
    """Resident memory of all processes of a run together; what they share counts for each of them."""

    processes: int
    rss_mib: Spread  # at the end of the measured time
    growth_percent: Spread  # from its beginning to its end
    peak_mib: Spread  # the sum of what each process had at its most, its start included


class PowerFigures(msgspec.Struct, frozen=True):
    """What the machine says that it used while the run was measured, others' work on it included."""

    cpu_watts: Spread | None  # RAPL's processor packages; None: not readable
    cpu_joules_per_frame: Spread | None
    gpu: GpuFigures | None  # of the last repeat; None: no NVIDIA GPU


class PipelineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Runs, each a process of its own, seen by a subscriber in another process."""

    pace: Literal["fast", "camera"]
    seconds: float  # measured, the warm-ups not counted
    frames: int  # whose messages arrived in that time
    frames_per_s: Spread
    cpu_ms_per_frame: Spread  # all processes of the run: decoding to publishing
    cores_used: Spread
    latency_ms: dict[str, Percentiles]  # capture to message, and its parts; see TimingsMessage
    latency_p50_ms: Spread
    latency_p99_ms: Spread
    dropped: dict[str, int]  # by cause, in the measured time
    memory: MemoryFigures
    power: PowerFigures
    objects_per_frame: float  # what the pictures gave the later stages to do
    faces_per_frame: float
    received: int  # messages, from the first to the last of the runs
    missed: int  # messages that were sent and did not arrive
    runs: tuple[dict[str, Any], ...]  # the runs' own books, starts included, as ``trunkline run --json`` prints them


class PipelineReport(msgspec.Struct, frozen=True, kw_only=True):
    """Throughput comes from runs as fast as they go, latency from runs at the pace of cameras."""

    streams: int
    links: str  # "queue": stages are threads of one process; "zmq": processes
    throughput: PipelineFigures
    limit: LimitFigures
    ratio_to_limit: float  # frames/s of the throughput to those of the limit: the median of the repeats
    ratio_to_limit_repeats: Spread
    cpu_ms_beyond_limit: Spread  # CPU time of a frame that is not decoding, scaling or the engine's
    latency: PipelineFigures


class PredecodedReport(msgspec.Struct, frozen=True, kw_only=True):
    """From frames in memory: what is left of the engine's speed once everything but decoding stands around it."""

    streams: int
    held: int  # frames of each stream, played over and over
    preprocess: str  # where pictures are scaled: "cpu" or "gpu"
    throughput: PipelineFigures
    engine_batch: int  # pictures: the largest batch that the pipeline forms
    engine_per_s: Spread  # pictures, alone, in such batches and as many under way as it likes, after each run
    ratio_to_engine: float  # of the frames/s: the median of the repeats
    ratio_to_engine_repeats: Spread


def measure_pipeline(setup: Setup, streams: int, seconds: float, repeats: int, tell: Tell) -> PipelineReport:
    """Run all stages ``repeats`` times for ``seconds`` together as fast as it goes, and as often as cameras.

    After each run as fast as it goes its limit is measured, so that both have the same noise of the machine.
    TrunklineError as :func:`tools.benchmarking.run.watch`.
    """
    runs: list[Watched] = []
    costs: list[FrameCost] = []
    share_s, warm_up_s = seconds / repeats, WARM_UP_SHARE * seconds
    with open_entry(load_model(setup.model.path), "frame", setup.model) as engine:
        for number in range(repeats):
            tell(f"pipeline as fast as it goes, {number + 1} of {repeats}")
            runs.append(watch(setup.config(streams, "fast"), share_s, warm_up_s))
            tell(f"the limit, {number + 1} of {repeats}")
            costs.append(_cost(setup.sources, engine, runs[-1].books["batches"], share_s))
    live = []
    for number in range(repeats):
        tell(f"pipeline at the pace of cameras, {number + 1} of {repeats}")
        live.append(watch(setup.config(streams, "camera"), share_s, warm_up_s))
    return summarise(streams, setup.links, runs, costs, live, usable_cores())


def measure_predecoded(
    setup: Setup, streams: int, held: int, seconds: float, repeats: int, tell: Tell
) -> PredecodedReport:
    """Run all stages but decoding, which are threads then, on ``held`` frames of each stream, as fast as they go.

    After each run its engine is measured alone, for as long. TrunklineError as :func:`tools.benchmarking.run.watch`.
    """
    runs: list[Watched] = []
    alone: list[float] = []
    config, share_s = setup.config(streams, "fast"), seconds / repeats
    batch, source = config.inference.max_batch, partial(from_memory, held)
    with open_entry(load_model(setup.model.path), "frame", setup.model) as engine:
        for number in range(repeats):
            tell(f"pipeline from memory, {number + 1} of {repeats}")
            runs.append(watch(config, share_s, WARM_UP_SHARE * seconds, source=source))
            tell(f"its engine alone, {number + 1} of {repeats}")
            alone.append(measure_throughput(engine, batch, share_s, repeats=1)[0].per_s)
    return summarise_predecoded(streams, held, setup.preprocess, runs, batch, alone)


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


def _cost(sources: Sequence[str], engine: Engine, batches: Mapping[int, int], seconds: float) -> FrameCost:
    """Measure what no pipeline can do without, one after the other, with batches of the sizes that a run had."""
    third_s, cpu_ms, ms = seconds / 3, 0.0, 0.0
    for size, share in frame_shares(batches).items():
        (window,) = measure_throughput(engine, size, third_s * share, repeats=1)
        cpu_ms += share * window.cpu_ms
        ms += share * 1e3 / window.per_s
    size_hw = engine.spec.height, engine.spec.width
    return FrameCost(
        decode=measure_decode(sources, third_s, repeats=1).cpu_ms_per_frame.median,
        scale=measure_preprocess(sources, size_hw, third_s, repeats=1).cpu_ms_per_frame.median,
        engine=cpu_ms,
        engine_images_per_s=None if engine.device.upper() == "CPU" else 1e3 / ms,
    )


def frame_shares(batches: Mapping[int, int]) -> dict[int, float]:
    """Return which share of the frames came in batches of which size, without sizes that hardly any came in.

    >>> frame_shares({1: 5, 4: 5})
    {1: 0.2, 4: 0.8}
    """
    frames = {size: size * number for size, number in batches.items()}
    least = SMALL_SHARE * sum(frames.values())
    kept = {size: number for size, number in frames.items() if number >= least}
    return {size: number / sum(kept.values()) for size, number in kept.items()}


def summarise(
    streams: int,
    links: Links,
    runs: Sequence[Watched],
    costs: Sequence[FrameCost],
    live: Sequence[Watched],
    cores: int,
) -> PipelineReport:
    """Return the report of runs as fast as they go, what each could not do without, and runs as cameras."""
    fast = summarise_runs("fast", runs)
    batches = _sum(run.books["batches"] for run in runs)
    limit = LimitFigures(
        cores=cores,
        batch_mean=rounded(sum(size * number for size, number in batches.items()) / sum(batches.values())),
        decode_cpu_ms=Spread.of(cost.decode for cost in costs),
        scale_cpu_ms=Spread.of(cost.scale for cost in costs),
        engine_cpu_ms=Spread.of(cost.engine for cost in costs),
        frames_per_s=Spread.of(cost.frames_per_s(cores) for cost in costs),
    )
    ratios = _ratios(fast, limit.frames_per_s.values)
    beyond = (used - cost.total for used, cost in zip(fast.cpu_ms_per_frame.values, costs, strict=True))
    return PipelineReport(
        streams=streams,
        links=links,
        throughput=fast,
        limit=limit,
        ratio_to_limit=ratios.median,
        ratio_to_limit_repeats=ratios,
        cpu_ms_beyond_limit=Spread.of(beyond),
        latency=summarise_runs("camera", live),
    )


def summarise_predecoded(
    streams: int, held: int, preprocess: str, runs: Sequence[Watched], batch: int, alone: Sequence[float]
) -> PredecodedReport:
    """Return the report of runs, and of their engine's pictures a second alone after each."""
    throughput = summarise_runs("fast", runs)
    ratios = _ratios(throughput, alone)
    return PredecodedReport(
        streams=streams,
        held=held,
        preprocess=preprocess,
        throughput=throughput,
        engine_batch=batch,
        engine_per_s=Spread.of(alone),
        ratio_to_engine=ratios.median,
        ratio_to_engine_repeats=ratios,
    )


def _ratios(reached: PipelineFigures, most: Sequence[float]) -> Spread:
    return Spread.of(one / other for one, other in zip(reached.frames_per_s.values, most, strict=True))


def summarise_runs(pace: Literal["fast", "camera"], runs: Sequence[Watched]) -> PipelineFigures:
    """Return the figures of the repeats of a run."""
    frames = [message for run in runs for message in run.heard]
    tails = [latency([run]) for run in runs]
    joules = [run.joules for run in runs if run.joules is not None]
    known = len(joules) == len(runs)
    return PipelineFigures(
        pace=pace,
        seconds=rounded(sum(run.seconds for run in runs)),
        frames=len(frames),
        frames_per_s=Spread.of(run.per_s for run in runs),
        cpu_ms_per_frame=Spread.of(run.cpu_ms for run in runs),
        cores_used=Spread.of(run.cores_used for run in runs),
        latency_ms={step: latency(runs, step) for step in STEPS},
        latency_p50_ms=Spread.of(tail.p50 for tail in tails),
        latency_p99_ms=Spread.of(tail.p99 for tail in tails),
        dropped=_sum(run.dropped for run in runs),
        memory=MemoryFigures(
            processes=runs[-1].end.processes,
            rss_mib=Spread.of(run.rss_mib for run in runs),
            growth_percent=Spread.of(100 * (run.end.rss_bytes / run.begin.rss_bytes - 1) for run in runs),
            peak_mib=Spread.of(run.end.peak_bytes / MIB for run in runs),
        ),
        power=PowerFigures(
            Spread.of(spent / run.seconds for spent, run in zip(joules, runs, strict=True)) if known else None,
            Spread.of(spent / len(run.heard) for spent, run in zip(joules, runs, strict=True)) if known else None,
            runs[-1].gpu,
        ),
        objects_per_frame=rounded(fmean(len(message.objects) for message in frames)),
        faces_per_frame=rounded(fmean(len(message.faces) for message in frames)),
        received=sum(run.received for run in runs),
        missed=sum(run.missed for run in runs),
        runs=tuple(run.books for run in runs),
    )


def _sum(counts: Iterator[Mapping[Any, int]]) -> dict[Any, int]:
    total: Counter[Any] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)
