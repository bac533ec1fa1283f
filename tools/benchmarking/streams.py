"""How many cameras at once: the largest number of real-time streams whose latency holds with no frame lost."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec

from pipeline.settings.schema import InferenceSettings
from tools.benchmarking.figures import WARM_UP_SHARE, Percentiles, rounded
from tools.benchmarking.pipeline import MIB
from tools.benchmarking.setup import Setup
from tools.benchmarking.watch import Heard, Watched, watch

TAIL: Final = 0.01  # of the frames may be slower than a p99
MIN_FRAMES: Final = 300  # of a trial: three beyond its p99
MIN_SHARE: Final = 0.95  # of the frames a camera gives in that time must arrive of every stream
STALE_SHARE: Final = 0.7  # of the bound: an older frame gives way to the next, a younger one can still be in time
CHANCES: Final = 2  # trials of a number: one moment of somebody else's work is not the end of the search


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
    max_queue_delay_ms: float = (
        InferenceSettings().max_queue_delay_ms
    )  # of the runs; what older reports had without saying so
    most: int  # streams that held it; 0: not even one
    tried_up_to: int  # no search beyond this
    trials: tuple[Trial, ...]  # in the order in which they were made


def measure_streams(
    setup: Setup,
    p99_ms: float,
    fps: float,
    seconds: float,
    up_to: int,
    tell: Callable[[str], None] = lambda text: None,
) -> StreamsReport:
    """Search for the number.

    Args:
        setup: what to run, with files whose own rate is ``fps``.
        p99_ms: latency, capture to message, that 99 % of the frames have to stay within.
        fps: of each stream.
        seconds: of a trial; longer where it would have too few frames for a p99.
        up_to: the largest number to try.
        tell: hears what is tried.

    Raises:
        TrunklineError: as :func:`tools.benchmarking.watch.watch`.
    """
    trials: list[Trial] = []

    def holds(streams: int) -> bool:
        for chance in range(CHANCES):
            tell(f"{streams} streams at once" + (", again" if chance else ""))
            trials.append(_try(setup, streams, p99_ms, fps, seconds))
            if trials[-1].failure is None:
                return True
        return False

    most = largest(holds, up_to)
    return StreamsReport(
        p99_ms=p99_ms,
        fps=fps,
        max_queue_delay_ms=STALE_SHARE * p99_ms,
        most=most,
        tried_up_to=up_to,
        trials=tuple(trials),
    )


def largest(holds: Callable[[int], bool], up_to: int) -> int:
    """The largest number that holds, 0 to ``up_to``, if each below one that holds does, too.

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


class Hopeless:
    """Says, message by message, whether a trial has certainly failed already."""

    def __init__(self, p99_ms: float, planned_frames: float) -> None:
        self._p99_ms = p99_ms
        self._late_allowed = TAIL * planned_frames
        self._seen = self._late = 0

    def __call__(self, heard: Sequence[Heard], dropped_before: Mapping[str, Mapping[str, int]]) -> bool:
        """Whether it has, with all that was heard and what had been dropped before, by stream and cause."""
        new = heard[self._seen :]
        self._seen = len(heard)
        self._late += sum(one.timings_ms.total > self._p99_ms for one in new)
        lost = any(sum(one.dropped.values()) > sum(dropped_before.get(one.stream, {}).values()) for one in new)
        return lost or self._late > self._late_allowed


def why_not(run: Watched, streams: Sequence[str], p99_ms: float, fps: float) -> str | None:
    """Why a run did not hold; None: it did."""
    if run.dropped:
        return "dropped " + ", ".join(f"{count} {cause}" for cause, count in sorted(run.dropped.items()))
    if run.missed:
        return f"{run.missed} messages did not arrive"
    latency = Percentiles.of([one.timings_ms.total for one in run.heard]) if run.heard else None
    if latency is None or run.cut_short or latency.p99 > p99_ms:
        return f"p99 beyond {p99_ms:g} ms"
    arrived = {name: 0 for name in streams}
    for one in run.heard:
        arrived[one.stream] += 1
    name, fewest = min(arrived.items(), key=lambda item: item[1])
    wanted = fps * run.seconds
    # A window may begin and end just before a frame.
    return f"{name} gave {fewest} of {wanted:.0f} frames" if fewest < MIN_SHARE * wanted - 1 else None


def _try(setup: Setup, streams: int, p99_ms: float, fps: float, seconds: float) -> Trial:
    config = setup.config(streams, "camera")
    inference = msgspec.structs.replace(config.inference, max_queue_delay_ms=STALE_SHARE * p99_ms)
    config = msgspec.structs.replace(config, inference=inference)
    lasting_s = max(seconds, MIN_FRAMES / (streams * fps))
    run = watch(config, WARM_UP_SHARE * seconds, lasting_s, Hopeless(p99_ms, streams * fps * lasting_s))
    return Trial(
        streams=streams,
        failure=why_not(run, [stream.name for stream in config.streams], p99_ms, fps),
        seconds=rounded(run.seconds),
        frames=len(run.heard),
        latency_ms=Percentiles.of([one.timings_ms.total for one in run.heard]) if run.heard else None,
        dropped=dict(run.dropped),
        cores_used=rounded(run.cpu_s / run.seconds),
        rss_mib=rounded(run.end.usage.rss_bytes / MIB),
    )
