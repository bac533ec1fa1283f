"""Many cameras at once: how many keep within a latency with no frame lost, and what one more costs."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from pipeline.settings.schema import InferenceSettings
from pipeline.wire.messages import FrameMessage
from tools.benchmarking.figures import WARM_UP_SHARE, Percentiles, Spread, rounded
from tools.benchmarking.pipeline import summarise_runs
from tools.benchmarking.run import Dropped, Judge, Setup, Tell, Watched, latency, watch

TAIL: Final = 0.01  # of the frames may be slower than a p99
MIN_FRAMES: Final = 300  # of a trial: three beyond its p99
MIN_SHARE: Final = 0.95  # of the frames a camera gives in that time must arrive of every stream
STALE_SHARE: Final = 0.7  # of the bound: an older frame gives way to the next, a younger one can still be in time
CHANCES: Final = 2  # trials of a number: one moment of somebody else's work is not the end of the search
SCALING_MIN_FRAMES: Final = 50  # of a repeat


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """So many streams at once, for a while."""

    streams: int
    failure: str | None  # None: it held
    seconds: float  # less than was planned, if the failure was certain before
    frames: int
    latency_ms: Percentiles | None  # capture to message, all streams together; None: no message came
    dropped: dict[str, int]  # by cause
    cores_used: float
    rss_mib: float


class StreamsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The search and what it found."""

    p99_ms: float  # that had to be held
    fps: float  # of each stream
    # Of the runs; what older reports had without saying so.
    max_queue_delay_ms: float = InferenceSettings().max_queue_delay_ms
    most: int  # streams that held it; 0: not even one
    tried_up_to: int  # no search beyond this
    trials: tuple[Trial, ...]  # in the order in which they were made


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


def measure_streams(setup: Setup, p99_ms: float, fps: float, seconds: float, up_to: int, tell: Tell) -> StreamsReport:
    """Search for the largest number of cameras, of files whose rate is ``fps``, that hold ``p99_ms``.

    A trial takes ``seconds``, or longer where it would have too few frames for a p99. TrunklineError as
    :func:`tools.benchmarking.run.watch`.
    """
    trials: list[Trial] = []

    def holds(streams: int) -> bool:
        for chance in range(CHANCES):
            tell(f"{streams} streams at once" + (", again" if chance else ""))
            trials.append(_try(setup, streams, p99_ms, fps, seconds))
            if trials[-1].failure is None:
                return True
        return False

    return StreamsReport(
        p99_ms=p99_ms,
        fps=fps,
        max_queue_delay_ms=STALE_SHARE * p99_ms,
        most=largest(holds, up_to),
        tried_up_to=up_to,
        trials=tuple(trials),
    )


def largest(holds: Callable[[int], bool], up_to: int) -> int:
    """Return the largest number that holds, 0 to ``up_to``, if each below one that holds does, too.

    Doubles until a number fails, then halves what lies between.

    >>> largest(lambda number: number <= 10, up_to=100)
    10
    """
    good, bad = 0, up_to + 1
    while bad - good > 1:
        number = min(max(2 * good, 1), up_to) if bad > up_to else (good + bad) // 2
        if holds(number):
            good = number
        else:
            bad = number
    return good


def _try(setup: Setup, streams: int, p99_ms: float, fps: float, seconds: float) -> Trial:
    config = setup.config(streams, "camera", max_queue_delay_ms=STALE_SHARE * p99_ms)
    lasting_s = max(seconds, MIN_FRAMES / (streams * fps))
    run = watch(config, lasting_s, WARM_UP_SHARE * seconds, hopeless(p99_ms, streams * fps * lasting_s))
    return Trial(
        streams=streams,
        failure=why_not(run, [stream.name for stream in config.streams], p99_ms, fps),
        seconds=rounded(run.seconds),
        frames=len(run.heard),
        latency_ms=latency([run]) if run.heard else None,
        dropped=dict(run.dropped),
        cores_used=rounded(run.cores_used),
        rss_mib=rounded(run.rss_mib),
    )


def hopeless(p99_ms: float, planned_frames: float) -> Judge:
    """Return what says, message by message, whether a trial has certainly failed already."""
    late = 0

    def failed(message: FrameMessage, before: Dropped) -> bool:
        nonlocal late
        late += message.timings_ms.total > p99_ms
        lost = sum(message.dropped.values()) > sum(before.get(message.stream, {}).values())
        return lost or late > TAIL * planned_frames

    return failed


def why_not(run: Watched, streams: Sequence[str], p99_ms: float, fps: float) -> str | None:
    """Return why a run did not hold; None: it did."""
    if run.dropped:
        return "dropped " + ", ".join(f"{count} {cause}" for cause, count in sorted(run.dropped.items()))
    if run.missed:
        return f"{run.missed} messages did not arrive"
    if not run.heard or run.cut_short or latency([run]).p99 > p99_ms:
        return f"p99 beyond {p99_ms:g} ms"
    arrived = {name: sum(message.stream == name for message in run.heard) for name in streams}
    name, fewest = min(arrived.items(), key=lambda item: item[1])
    wanted = fps * run.seconds
    # A window may begin and end just before a frame.
    return f"{name} gave {fewest} of {wanted:.0f} frames" if fewest < MIN_SHARE * wanted - 1 else None


def measure_scaling(setup: Setup, fps: float, seconds: float, up_to: int, repeats: int, tell: Tell) -> ScalingReport:
    """Run 1, 2, 4 ... up to ``up_to`` cameras of files whose rate is ``fps``, round after round.

    Each number runs for ``seconds`` together, or longer where it would have too few frames. TrunklineError as
    :func:`tools.benchmarking.run.watch`.
    """
    runs: dict[int, list[Watched]] = {count: [] for count in doubled(up_to)}
    for number in range(repeats):
        for count, watched in runs.items():
            tell(f"{count} streams at {fps:g} frames/s, {number + 1} of {repeats}")
            lasting_s = max(seconds / repeats, SCALING_MIN_FRAMES / (count * fps))
            watched.append(watch(setup.config(count, "camera"), lasting_s, WARM_UP_SHARE * seconds))
    return summarise(fps, runs)


def doubled(up_to: int) -> list[int]:
    """Return 1, 2, 4 ... as far as ``up_to``.

    >>> doubled(10)
    [1, 2, 4, 8]
    """
    return [1 << power for power in range(up_to.bit_length())]


def summarise(fps: float, runs: dict[int, list[Watched]]) -> ScalingReport:
    """Return the report of the runs of each number of streams."""
    least_cpu_ms = Spread.of(run.cpu_ms for run in runs[min(runs)]).median
    rows = tuple(_row(count, runs[count], least_cpu_ms) for count in sorted(runs))
    grown = rows[-1].rss_mib.median - rows[0].rss_mib.median
    more = rows[-1].streams - rows[0].streams
    return ScalingReport(fps=fps, rows=rows, mib_per_stream=rounded(grown / more) if more else None)


def _row(count: int, runs: Sequence[Watched], least_cpu_ms: float) -> ScalingFigures:
    figures = summarise_runs("camera", runs)
    return ScalingFigures(
        streams=count,
        frames_per_s=figures.frames_per_s,
        cpu_ms_per_frame=figures.cpu_ms_per_frame,
        cpu_per_frame_to_one=rounded(figures.cpu_ms_per_frame.median / least_cpu_ms),
        cores_used=figures.cores_used,
        latency_ms=figures.latency_ms["total"],
        latency_p99_ms=figures.latency_p99_ms,
        rss_mib=figures.memory.rss_mib,
        dropped=figures.dropped,
    )
