"""Latency in the first and in the last third of a soak, compared while no fault is there, with an interval."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

P99_RATIO: Final = 1.05  # of the last third to the first, at most
AFTER_S: Final = 2.0  # after all was well again, what had waited is through
SPELL_S: Final = 20.0  # the longest spell that counts as one: frames near each other are alike
LEAST_SPELLS: Final = 4  # of a third, without which nothing can be said
DRAWS: Final = 2000

Spell = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Compared:
    """The 99th percentile in the first third and in the last.

    Attributes:
        first_ms, last_ms: the percentiles.
        ratio: of the last to the first.
        low, high: bounds of 95 % of the ratio: of DRAWS draws of whole spells, with replacement (bootstrap of blocks).
    """

    first_ms: float
    last_ms: float
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f} ({self.low:.2f} to {self.high:.2f})"


def calm_spells(faults: Sequence[Spell], seconds: float) -> list[Spell]:
    """Return the times in which no fault was there, cut into spells of SPELL_S at most.

    Args:
        faults: from when to when each was there, in order; seconds.
        seconds: of the whole.

    >>> calm_spells([(4.0, 10.0)], 15.0)
    [(0.0, 4.0), (12.0, 15.0)]
    """
    begins = [0.0, *(until_s + AFTER_S for _, until_s in faults)]
    ends = [*(at_s for at_s, _ in faults), seconds]
    found = []
    for begin_s, end_s in zip(begins, ends, strict=True):
        while end_s > begin_s:
            found.append((begin_s, min(end_s, begin_s + SPELL_S)))
            begin_s += SPELL_S
    return found


def compared(
    seen: Sequence[tuple[float, float]], spells: Sequence[Spell], seconds: float, seed: int
) -> Compared | None:
    """Compare the first and last third of what was seen in some spells.

    Args:
        seen: moments in seconds and values in ms.
        spells: that count.
        seconds: of the whole.
        seed: of the draws.

    Returns:
        None where a third has fewer than LEAST_SPELLS spells with something in them.
    """
    times, values = np.array([at_s for at_s, _ in seen]), np.array([value for _, value in seen])
    chosen = [(begin_s, values[(times >= begin_s) & (times < end_s)]) for begin_s, end_s in spells]
    first = [part for begin_s, part in chosen if len(part) and begin_s < seconds / 3]
    last = [part for begin_s, part in chosen if len(part) and begin_s >= 2 * seconds / 3]
    if min(len(first), len(last)) < LEAST_SPELLS:
        return None
    chance = np.random.default_rng(seed)
    ratios = [_p99(_drawn(last, chance)) / _p99(_drawn(first, chance)) for _ in range(DRAWS)]
    first_ms, last_ms = _p99(np.concatenate(first)), _p99(np.concatenate(last))
    low, high = np.percentile(ratios, (2.5, 97.5)).tolist()
    return Compared(round(first_ms, 2), round(last_ms, 2), last_ms / first_ms, low, high)


def verdict(found: Compared) -> str:
    """Return in words whether P99_RATIO holds."""
    if found.low > P99_RATIO:
        return "not held"
    return "held" if found.high <= P99_RATIO else "held within noise" if found.ratio <= P99_RATIO else "cannot be told"


def _drawn(parts: Sequence[npt.NDArray[Any]], chance: np.random.Generator) -> npt.NDArray[Any]:
    return np.concatenate([parts[place] for place in chance.integers(0, len(parts), len(parts))])


def _p99(values: npt.NDArray[Any]) -> float:
    return float(np.percentile(values, 99))
