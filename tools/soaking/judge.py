"""The same questions after each fault, and the slopes of a whole soak."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from scipy.special import stdtrit

from tools.soaking.latency import P99_RATIO, Compared
from tools.soaking.trunkline import Sample, Seen, Trunkline

BLOCKS: Final = 24  # points of a slope, each the mean of its samples: neighbours depend on each other
BLOCK_S: Final = 30.0  # at the least, of one
LEAST_BLOCKS: Final = 8  # with fewer nothing can be said
GROWN: Final = 1.05  # what has a slope above 0 and is more at the end than in the beginning by this, grows
CALM: Final = "no fault"


@dataclass(frozen=True, slots=True)
class Pace:
    """How frames of a stream came in a time."""

    p99_ms: float | None  # from capture to message; None: none came
    gap_s: float  # the longest between two


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was found after one fault."""

    fault: str
    room: str
    at_s: float  # since the soak began
    until_s: float  # when all was well again, or given up
    recovered_s: float | None  # after it was healed; None: it was not
    before: Pace  # of the stream that was left alone, in the minute before ...
    during: Pace  # ... and from the fault until all was well
    missing: int  # messages of that stream that were sent and did not come
    told: tuple[str, ...]  # health reports of the broken stream, and warnings of the log


@dataclass(frozen=True, slots=True)
class Slope:
    """A straight line through what was sampled."""

    per_hour: float
    low: float  # of the 95 % interval
    high: float
    first: float  # mean of the first tenth of the time
    last: float


@dataclass(frozen=True, slots=True)
class Soak:
    """A whole soak."""

    seed: int
    seconds: float
    links: str
    model: str
    outcomes: list[Outcome]
    unaccounted: int
    lost: dict[str, int]  # frames by cause
    captured: int
    unstored: int  # events that were heard and are not in the store ...
    unstored_in: dict[str, int]  # ... by the fault in whose time they were heard ...
    told_unstored: int  # ... and how many messages the store's sink told that it lost
    forgotten: int  # events that were seen in the store, and are not there at the end
    events: int
    refused: int  # messages that follow no schema
    latency: Compared | None  # of the stream that was left alone, while no fault was there
    machine: Compared | None  # what a fixed piece of work took then, in a process beside it
    more_processes: list[str]  # commands that are there at the end and were not in the beginning
    slopes: dict[str, Slope] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


def pace(seen: Sequence[Seen], from_s: float, to_s: float) -> Pace:
    """Return how frames came between two moments of ``time.monotonic()``."""
    chosen = [each for each in seen if from_s <= each.at_s <= to_s]
    times = [from_s, *(each.at_s for each in chosen), to_s]
    gap_s = max(float(gap) for gap in np.diff(times))
    return Pace(percentile([each.total_ms for each in chosen]), gap_s)


def percentile(values: Sequence[float], part: float = 99.0) -> float | None:
    """Return a percentile; None of nothing."""
    return round(float(np.percentile(values, part)), 1) if len(values) else None


def missing(seen: Sequence[Seen], from_s: float) -> int:
    """Return how many messages of a stream did not come, by the numbers of those that did since a moment."""
    numbers = [each.number for each in seen if each.at_s >= from_s]
    return max(0, numbers[-1] - numbers[0] + 1 - len(numbers)) if numbers else 0


def slope(times_s: Sequence[float], values: Sequence[float]) -> Slope:
    """Return the line of least squares through the means of BLOCKS blocks, with its 95 % interval.

    With fewer than LEAST_BLOCKS there is no interval: it is infinite.
    """
    times, sampled = np.asarray(times_s, float), np.asarray(values, float)
    blocks = ((times - times[0]) // max(BLOCK_S, (times[-1] - times[0]) / BLOCKS)).astype(int)
    hours = np.array([times[blocks == block].mean() for block in np.unique(blocks)]) / 3600
    means = np.array([sampled[blocks == block].mean() for block in np.unique(blocks)])
    tenth = max(1, len(sampled) // 10)
    ends = float(sampled[:tenth].mean()), float(sampled[-tenth:].mean())
    spread = float(((hours - hours.mean()) ** 2).sum())
    if len(means) < LEAST_BLOCKS or spread == 0.0:
        return Slope(0.0, float("-inf"), float("inf"), *ends)
    per_hour = float(((hours - hours.mean()) * (means - means.mean())).sum() / spread)
    left = means - means.mean() - per_hour * (hours - hours.mean())
    of_95 = float(stdtrit(len(means) - 2, 0.975))  # of Student's distribution
    error = of_95 * float(np.sqrt((left**2).sum() / (len(means) - 2) / spread))
    return Slope(per_hour, per_hour - error, per_hour + error, *ends)


def slopes(samples: Sequence[Sample]) -> dict[str, Slope]:
    """Return the slope of each thing that is sampled, by its name."""
    times = [each.at_s for each in samples]
    names = ("memory_mb", "shared_mb", "descriptors", "threads", "processes")
    return {name: slope(times, [float(getattr(each, name)) for each in samples]) for name in names}


def told(trunkline: Trunkline, stream: str, since_s: float, log_place: int) -> tuple[str, ...]:
    """Return what was told of a stream since a moment, in its words, and the log's warnings and errors."""
    import json

    said = [f"{report.state}: {report.cause}" for at_s, report in trunkline.health[stream] if at_s >= since_s]
    for line in trunkline.log(log_place).splitlines():
        try:
            entry: dict[str, Any] = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") in ("warning", "error") or "messages_lost" in entry:
            about = entry.get("cause") or entry.get("error") or entry.get("process") or entry.get("sink") or ""
            said.append(f"log: {entry.get('event')} {about}".strip().replace(str(trunkline.folder), "..."))
    return tuple(dict.fromkeys(said))


def problems(soak: Soak) -> list[str]:
    """Return what does not hold, a sentence each."""
    found = []
    if soak.unaccounted:
        found.append(f"{soak.unaccounted} frames are unaccounted for")
    if soak.unstored > soak.told_unstored:
        untold = soak.unstored - soak.told_unstored
        found.append(f"{untold} events that subscribers heard are not in the store, and it was not told")
    if calm := soak.unstored_in.get(CALM):
        found.append(f"{calm} events that subscribers heard while no fault was there are not in the store")
    if soak.forgotten:
        found.append(f"{soak.forgotten} events that were in the store are not there any more")
    if soak.refused:
        found.append(f"{soak.refused} messages do not follow the schema")
    for each in soak.outcomes:
        if each.recovered_s is None:
            found.append(f"{each.fault}: not all was well again in time")
    if soak.latency is not None and soak.latency.low > P99_RATIO:
        found.append(f"p99 of the stream that was left alone grew: {soak.latency}, at most {P99_RATIO} is asked")
    for name in ("memory_mb", "shared_mb", "descriptors", "threads", "processes"):
        if (line := soak.slopes.get(name)) is not None and line.low > 0.0 and line.last > GROWN * line.first:
            found.append(f"{name} grows: {line.per_hour:.1f} an hour ({line.low:.1f} to {line.high:.1f})")
    if soak.more_processes:
        found.append(f"processes that were not there in the beginning: {', '.join(soak.more_processes)}")
    return found
