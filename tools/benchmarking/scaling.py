"""What one more stream costs: 1, 2, 4 ... streams at a rate that does not fill the machine."""

from collections.abc import Callable, Sequence

import msgspec

from tools.benchmarking.figures import REPEATS, WARM_UP_SHARE, Percentiles, Spread, rounded
from tools.benchmarking.pipeline import MIB
from tools.benchmarking.setup import Setup
from tools.benchmarking.watch import Watched, watch

MIN_FRAMES = 50  # of a repeat


class ScalingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """So many streams at once."""

    streams: int
    frames_per_s: Spread  # of all streams together
    cpu_ms_per_frame: Spread
    cpu_per_frame_to_one: float  # CPU time of a frame to that with the fewest streams
    cores_used: Spread
    latency_ms: Percentiles  # capture to message, all repeats together
    latency_p99_ms: Spread
    rss_mib: Spread
    dropped: dict[str, int]  # by cause


class ScalingReport(msgspec.Struct, frozen=True, kw_only=True):
    """From few streams to many."""

    fps: float  # of each stream
    rows: tuple[ScalingFigures, ...]
    mib_per_stream: float | None  # of resident memory, from the fewest to the most; None: there is only one number


def measure_scaling(
    setup: Setup,
    fps: float,
    seconds: float,
    up_to: int,
    repeats: int = REPEATS,
    tell: Callable[[str], None] = lambda text: None,
) -> ScalingReport:
    """Run 1, 2, 4 ... up to ``up_to`` streams, round after round, each number for ``seconds`` together.

    Args:
        setup: what to run, with files whose own rate is ``fps``.
        fps: of each stream.
        seconds: of each number; longer where it would have too few frames.
        up_to: the largest number.
        repeats: rounds.
        tell: hears what is run.

    Raises:
        TrunklineError: as :func:`tools.benchmarking.watch.watch`.
    """
    counts = doubled(up_to)
    runs: dict[int, list[Watched]] = {count: [] for count in counts}
    for number in range(repeats):
        for count in counts:
            tell(f"{count} streams at {fps:g} frames/s, {number + 1} of {repeats}")
            lasting_s = max(seconds / repeats, MIN_FRAMES / (count * fps))
            runs[count].append(watch(setup.config(count, "camera"), WARM_UP_SHARE * seconds, lasting_s))
    return summarise(fps, runs)


def doubled(up_to: int) -> list[int]:
    """1, 2, 4 ... as far as ``up_to``.

    >>> doubled(10)
    [1, 2, 4, 8]
    """
    return [1 << power for power in range(up_to.bit_length())]


def summarise(fps: float, runs: dict[int, list[Watched]]) -> ScalingReport:
    """The report of the runs of each number of streams."""
    first = min(runs)
    least = _cpu_ms(runs[first]).median
    rows = tuple(_row(count, runs[count], least) for count in sorted(runs))
    grown = rows[-1].rss_mib.median - rows[0].rss_mib.median
    more = rows[-1].streams - rows[0].streams
    return ScalingReport(fps=fps, rows=rows, mib_per_stream=rounded(grown / more) if more else None)


def _row(count: int, runs: Sequence[Watched], least_cpu_ms: float) -> ScalingFigures:
    cpu_ms = _cpu_ms(runs)
    dropped: dict[str, int] = {}
    for run in runs:
        for cause, lost in run.dropped.items():
            dropped[cause] = dropped.get(cause, 0) + lost
    return ScalingFigures(
        streams=count,
        frames_per_s=Spread.of([len(run.heard) / run.seconds for run in runs]),
        cpu_ms_per_frame=cpu_ms,
        cpu_per_frame_to_one=rounded(cpu_ms.median / least_cpu_ms),
        cores_used=Spread.of([run.cpu_s / run.seconds for run in runs]),
        latency_ms=Percentiles.of([one.timings_ms.total for run in runs for one in run.heard]),
        latency_p99_ms=Spread.of([Percentiles.of([one.timings_ms.total for one in run.heard]).p99 for run in runs]),
        rss_mib=Spread.of([run.end.usage.rss_bytes / MIB for run in runs]),
        dropped=dropped,
    )


def _cpu_ms(runs: Sequence[Watched]) -> Spread:
    return Spread.of([1e3 * run.cpu_s / len(run.heard) for run in runs])
