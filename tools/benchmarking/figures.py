"""What every measurement shares: warm-up, repeats, and the figures made of them."""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final, Self

import msgspec
import numpy as np

REPEATS: Final = 3  # an odd number, so that the median is a measured value
WARM_UP_SHARE: Final = 0.2  # of the measured time, spent before it
DIGITS: Final = 5  # of a figure


class Spread(msgspec.Struct, frozen=True):
    """A figure that was measured several times: the median is the result, the others say how sure it is."""

    median: float
    min: float
    max: float
    values: tuple[float, ...]  # of each repeat, in order

    @classmethod
    def of(cls, values: Iterable[float]) -> Self:
        """Return the spread of one value a repeat.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, min=1.0, max=3.0, values=(3.0, 1.0, 2.0))
        """
        every = list(values)
        middle, least, greatest = (rounded(value) for value in (median(every), min(every), max(every)))
        return cls(middle, least, greatest, tuple(map(rounded, every)))


class Percentiles(msgspec.Struct, frozen=True):
    """How long single things took, milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values_ms: Sequence[float]) -> Self:
        """Return percentiles of at least one value, interpolated linearly between neighbours.

        >>> Percentiles.of([1.0, 2.0, 3.0])
        Percentiles(p50=2.0, p90=2.8, p95=2.9, p99=2.98, max=3.0)
        """
        return cls(*map(rounded, np.percentile(values_ms, (50, 90, 95, 99, 100)).tolist()))


@dataclass(frozen=True, slots=True)
class Window:
    """One repeat of a measurement."""

    seconds: float
    cpu_seconds: float  # of all threads of this process
    laps_ms: tuple[float, ...]  # how long each call took
    each: int = 1  # frames of a call

    @property
    def frames(self) -> int:
        return self.each * len(self.laps_ms)

    @property
    def per_s(self) -> float:
        return self.frames / self.seconds

    @property
    def cpu_ms(self) -> float:
        return 1e3 * self.cpu_seconds / self.frames

    @property
    def per_core(self) -> float:
        """Frames a second of CPU time; its clock is coarse on some systems: a window of one quick call may read 0."""
        return self.frames / max(self.cpu_seconds, 1e-9)


def measure(work: Callable[[], object], seconds: float, repeats: int = REPEATS, *, each: int = 1) -> list[Window]:
    """Call ``work`` over and over: first to warm up, then in ``repeats`` windows that last ``seconds`` together.

    A call takes ``each`` frames. One that takes longer than its window is finished and counted, so every window has at
    least one.
    """
    _window(work, WARM_UP_SHARE * seconds, each)
    return [_window(work, seconds / repeats, each) for _ in range(repeats)]


def rounded(value: float) -> float:
    """Return a figure with as many digits as can be meant.

    >>> rounded(1234.5678), rounded(0.00123456)
    (1234.6, 0.0012346)
    """
    return float(f"{value:.{DIGITS}g}")


def _window(work: Callable[[], object], seconds: float, each: int) -> Window:
    laps: list[float] = []
    cpu_began = time.process_time()
    began = before = time.perf_counter()
    while before - began < seconds or not laps:
        work()
        now = time.perf_counter()
        laps.append((now - before) * 1e3)
        before = now
    return Window(before - began, time.process_time() - cpu_began, tuple(laps), each)
