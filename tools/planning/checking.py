"""The model held against this machine: so many streams run as cameras, and what they use beside what was planned."""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from pipeline.settings.schema import ModelSettings
from tools.benchmarking.clip import lengthen, render
from tools.benchmarking.run import Setup, Tell
from tools.benchmarking.streams import ScalingFigures, measure_scaling
from tools.planning.costs import CLIP_S, SIZES, FrameCosts
from tools.planning.planned import PlannedLoad, busy_cores, p99_ms


class CheckedNumber(msgspec.Struct, frozen=True, kw_only=True):
    """One number of streams, as planned and as run."""

    streams: int
    cores_planned: float  # that are busy
    cores_used: float
    error: float  # of the plan, as a share of what was used
    p99_planned_ms: float | None  # None: more than these cores can do
    p99_ms: float
    dropped: int  # frames: where there are any, the cores could not do it


def measure_numbers(
    costs: FrameCosts, load: PlannedLoad, model: str, seconds: float, tell: Tell
) -> Sequence[ScalingFigures]:
    """Run 1, 2, 4 ... ``load.streams`` streams as cameras, each number for ``seconds``."""
    with tempfile.TemporaryDirectory(prefix="trunkline-plan-") as name:
        folder = Path(name)
        render(folder / "clip.mp4", SIZES[costs.size], CLIP_S)
        source = lengthen(str(folder / "clip.mp4"), folder / "clip.mkv", load.fps)
        inferred = None if load.inferred >= load.fps else load.inferred
        setup = Setup((source,), ModelSettings(path=model), "queue", folder, inferred=inferred)
        return measure_scaling(setup, load.fps, seconds, load.streams, 1, tell).rows


def check(costs: FrameCosts, load: PlannedLoad, cores: int, rows: Sequence[ScalingFigures]) -> list[CheckedNumber]:
    """Hold what was measured of each number of streams against the plan for so many."""
    found = []
    for row in rows:
        part = replace(load, streams=row.streams)
        busy, used, p99 = busy_cores(costs, part, cores), row.cores_used.median, p99_ms(costs, part, cores)
        found.append(
            CheckedNumber(
                streams=row.streams,
                cores_planned=round(busy, 3),
                cores_used=used,
                error=round(busy / used - 1.0, 3),
                p99_planned_ms=None if busy >= cores else round(p99, 1),
                p99_ms=row.latency_ms.p99,
                dropped=sum(row.dropped.values()),
            )
        )
    return found
