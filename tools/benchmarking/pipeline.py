"""The whole pipeline on files: as fast as it goes, held against the limit, and at the pace of cameras."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Final, Literal

import msgspec

from engines.hardware import usable_cores
from engines.spec import load_model
from pipeline.inference.stage import open_entry
from tools.benchmarking.figures import REPEATS, WARM_UP_SHARE, Percentiles, Spread, rounded
from tools.benchmarking.limit import FrameCost, LimitFigures, measure_cost
from tools.benchmarking.limit import summarise as summarise_limit
from tools.benchmarking.power import GpuFigures
from tools.benchmarking.setup import Links, Setup
from tools.benchmarking.watch import Watched, watch

STEPS: Final = ("total", "queue", "infer", "post")  # of a message's timings
MIB: Final = 2**20


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


def measure_pipeline(
    setup: Setup, streams: int, seconds: float, repeats: int = REPEATS, tell: Callable[[str], None] = lambda text: None
) -> PipelineReport:
    """Run all stages ``repeats`` times for ``seconds`` together as fast as it goes, and as often as cameras.

    After each run as fast as it goes its limit is measured, so that both have the same noise of the machine.

    Args:
        setup: what to run.
        streams: how many at once.
        seconds: measured of each of the two.
        repeats: runs of each of the two.
        tell: hears what is run.

    Raises:
        TrunklineError: as :func:`tools.benchmarking.watch.watch`.
    """
    share_s = seconds / repeats
    runs: list[Watched] = []
    costs: list[FrameCost] = []
    model = load_model(setup.model.path)
    with open_entry(model, "frame", setup.model) as engine:
        for number in range(repeats):
            tell(f"pipeline as fast as it goes, {number + 1} of {repeats}")
            runs.append(watch(setup.config(streams, "fast"), WARM_UP_SHARE * seconds, share_s))
            tell(f"the limit, {number + 1} of {repeats}")
            costs.append(measure_cost(setup.sources, engine, runs[-1].books["batches"], share_s))
    live = []
    for number in range(repeats):
        tell(f"pipeline at the pace of cameras, {number + 1} of {repeats}")
        live.append(watch(setup.config(streams, "camera"), WARM_UP_SHARE * seconds, share_s))
    return summarise(streams, setup.links, runs, costs, live, usable_cores())


def summarise(
    streams: int,
    links: Links,
    runs: Sequence[Watched],
    costs: Sequence[FrameCost],
    live: Sequence[Watched],
    cores: int,
) -> PipelineReport:
    """The report of runs as fast as they go, what each could not do without, and runs as cameras."""
    fast = summarise_runs("fast", runs)
    limit = summarise_limit(costs, _sum(run.books["batches"] for run in runs), cores)
    ratios = [reached / most for reached, most in zip(fast.frames_per_s.values, limit.frames_per_s.values, strict=True)]
    beyond = [used - cost.total for used, cost in zip(fast.cpu_ms_per_frame.values, costs, strict=True)]
    return PipelineReport(
        streams=streams,
        links=links,
        throughput=fast,
        limit=limit,
        ratio_to_limit=Spread.of(ratios).median,
        ratio_to_limit_repeats=Spread.of(ratios),
        cpu_ms_beyond_limit=Spread.of(beyond),
        latency=summarise_runs("camera", live),
    )


def summarise_runs(pace: Literal["fast", "camera"], runs: Sequence[Watched]) -> PipelineFigures:
    """The figures of the repeats of a run."""
    heard = [one for run in runs for one in run.heard]
    totals = [Percentiles.of([one.timings_ms.total for one in run.heard]) for run in runs]
    return PipelineFigures(
        pace=pace,
        seconds=rounded(sum(run.seconds for run in runs)),
        frames=len(heard),
        frames_per_s=Spread.of([len(run.heard) / run.seconds for run in runs]),
        cpu_ms_per_frame=Spread.of([1e3 * run.cpu_s / len(run.heard) for run in runs]),
        cores_used=Spread.of([run.cpu_s / run.seconds for run in runs]),
        latency_ms={step: Percentiles.of([getattr(one.timings_ms, step) for one in heard]) for step in STEPS},
        latency_p50_ms=Spread.of([total.p50 for total in totals]),
        latency_p99_ms=Spread.of([total.p99 for total in totals]),
        dropped=dict(_sum(run.dropped for run in runs)),
        memory=memory_of(runs),
        power=_power(runs),
        objects_per_frame=rounded(fmean(one.objects for one in heard)),
        faces_per_frame=rounded(fmean(one.faces for one in heard)),
        received=sum(run.received for run in runs),
        missed=sum(run.missed for run in runs),
        runs=tuple(run.books for run in runs),
    )


def memory_of(runs: Sequence[Watched]) -> MemoryFigures:
    """Of the repeats of a run."""
    return MemoryFigures(
        processes=runs[-1].end.usage.processes,
        rss_mib=Spread.of([run.end.usage.rss_bytes / MIB for run in runs]),
        growth_percent=Spread.of([100 * (run.end.usage.rss_bytes / run.begin.usage.rss_bytes - 1) for run in runs]),
        peak_mib=Spread.of([run.end.usage.peak_bytes / MIB for run in runs]),
    )


def _power(runs: Sequence[Watched]) -> PowerFigures:
    joules = [run.joules for run in runs]
    known = [each for each in joules if each is not None]
    if len(known) < len(runs):
        return PowerFigures(None, None, runs[-1].gpu)
    watts = Spread.of([each / run.seconds for each, run in zip(known, runs, strict=True)])
    per_frame = Spread.of([each / len(run.heard) for each, run in zip(known, runs, strict=True)])
    return PowerFigures(watts, per_frame, runs[-1].gpu)


def _sum(counts: Iterable[Mapping[Any, int]]) -> Mapping[Any, int]:
    total: Counter[Any] = Counter()
    for each in counts:
        total.update(each)
    return total
