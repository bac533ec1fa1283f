"""The limit: what this machine could do if decoding, scaling and the engine were all there is."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from engines.engine import Engine
from tools.benchmarking.engine import cpu_ms_per_image, measure_throughput, random_pictures
from tools.benchmarking.figures import Spread, rounded
from tools.benchmarking.video import measure_decode, measure_preprocess

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
        """What so many cores could do, if the engine keeps up."""
        return min(1e3 * cores / self.total, self.engine_images_per_s or math.inf)


class LimitFigures(msgspec.Struct, frozen=True):
    """Cores divided by the sum of the three, or the speed of an engine on a GPU if that is less.

    Measured after each repeat of the run that is held against it.
    """

    cores: int
    batch_mean: float
    decode_cpu_ms: Spread
    scale_cpu_ms: Spread
    engine_cpu_ms: Spread
    frames_per_s: Spread


def measure_cost(sources: Sequence[str], engine: Engine, batches: Mapping[int, int], seconds: float) -> FrameCost:
    """Measure the three, one after the other.

    Args:
        sources: files whose frames were decoded, evenly.
        engine: the frame entry as the run had it.
        batches: how many batches of each size the run had.
        seconds: for all of it.
    """
    size = engine.spec.height, engine.spec.width
    third_s = seconds / 3
    cpu_ms, ms = _engine_ms(engine, frame_shares(batches), third_s)
    return FrameCost(
        decode=measure_decode(sources, third_s, repeats=1).cpu_ms_per_frame.median,
        scale=measure_preprocess(sources, size, third_s, repeats=1).cpu_ms_per_frame.median,
        engine=cpu_ms,
        engine_images_per_s=None if engine.device.upper() == "CPU" else 1e3 / ms,
    )


def frame_shares(batches: Mapping[int, int]) -> dict[int, float]:
    """Which share of the frames came in batches of which size, without sizes that hardly any came in.

    >>> frame_shares({1: 5, 4: 5})
    {1: 0.2, 4: 0.8}
    """
    frames = {size: size * count for size, count in batches.items()}
    least = SMALL_SHARE * sum(frames.values())
    kept = {size: count for size, count in frames.items() if count >= least}
    return {size: count / sum(kept.values()) for size, count in kept.items()}


def summarise(costs: Sequence[FrameCost], batches: Mapping[int, int], cores: int) -> LimitFigures:
    """The limit from what each repeat measured."""
    return LimitFigures(
        cores=cores,
        batch_mean=rounded(sum(size * count for size, count in batches.items()) / sum(batches.values())),
        decode_cpu_ms=Spread.of([cost.decode for cost in costs]),
        scale_cpu_ms=Spread.of([cost.scale for cost in costs]),
        engine_cpu_ms=Spread.of([cost.engine for cost in costs]),
        frames_per_s=Spread.of([cost.frames_per_s(cores) for cost in costs]),
    )


def _engine_ms(engine: Engine, shares: Mapping[int, float], seconds: float) -> tuple[float, float]:
    """CPU time and time of a picture, milliseconds."""
    cpu_ms, ms = 0.0, 0.0
    for size, share in shares.items():
        windows = measure_throughput(engine, random_pictures(engine, size), seconds * share, repeats=1)
        cpu_ms += share * cpu_ms_per_image(windows, size).median
        ms += share * 1e3 * windows[0].seconds / (size * len(windows[0].laps_ms))
    return cpu_ms, ms
