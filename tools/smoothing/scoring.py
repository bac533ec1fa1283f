"""What is wrong with what is shown: how long, how often it changes, how late."""

from typing import Final

import msgspec
import numpy as np

from engines.arrays import Double, Rows
from tools.smoothing.simulated import Simulated

NONE: Final = -1  # shown where there is no label, as of a scene that is not named


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What is shown of things whose true label is known."""

    wrong: float  # share of the time in which another label is shown than the true one, or none ...
    unnamed: float  # ... and in which it is none
    flicker: float  # changes a minute and thing, beyond the true ones
    delay_s: float  # from a true change until it is shown: median ...
    delay_p95_s: float  # ... and 95th percentile; a change that is never shown counts until the next one


def score(truth: Simulated, shown: Rows) -> Figures:
    """Figures of the labels (F, N) that are shown in the frames of a simulation."""
    lasts = np.diff(truth.times_s, append=truth.times_s[-1])
    changes = sum(len(since) for since, _ in truth.changes)
    delays = _delays(truth, shown)
    minutes = truth.length_s / 60 * shown.shape[1]
    wrong, unnamed = (
        float(lasts @ where.mean(axis=1) / lasts.sum()) for where in (shown != truth.truth, shown == NONE)
    )
    return Figures(
        wrong=wrong,
        unnamed=unnamed,
        flicker=max(0.0, (count_changes(shown) - changes) / minutes),
        delay_s=float(np.median(delays)),
        delay_p95_s=float(np.percentile(delays, 95)),
    )


def mean(figures: list[Figures]) -> Figures:
    """The mean of each figure."""
    values = np.mean([msgspec.structs.astuple(each) for each in figures], axis=0).tolist()
    return Figures(**dict(zip(Figures.__struct_fields__, (round(value, 5) for value in values), strict=True)))


def count_changes(shown: Rows) -> int:
    """How often the labels (F, N) change; a first label is none."""
    had_one = np.logical_or.accumulate(shown != NONE, axis=0)[:-1]
    return int(((shown[1:] != shown[:-1]) & had_one).sum())


def _delays(truth: Simulated, shown: Rows) -> Double:
    times, delays = truth.times_s, []
    for thing, (since, labels) in enumerate(truth.changes):
        ends = np.append(since[1:], truth.length_s)
        firsts, lasts = np.searchsorted(times, since), np.searchsorted(times, ends)
        for row, label in enumerate(labels):
            right = np.flatnonzero(shown[firsts[row] : lasts[row], thing] == label)
            at = times[firsts[row] + right[0]] if len(right) else ends[row]
            delays.append(at - since[row])
    return np.array(delays or [0.0])
