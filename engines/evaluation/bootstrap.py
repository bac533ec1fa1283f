"""Bootstrap confidence intervals: how far a figure would move if the data had been drawn again.

Percentile intervals after Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13. What is drawn is
the unit that is independent of the others: a picture, or everything of an identity.
"""

from collections.abc import Sequence

import msgspec
import numpy as np

from engines.arrays import Double, Flags
from engines.evaluation.matching import IOUS, Matches, weighted_average_precision

RESAMPLES = 1000
SEED = 0
CONFIDENCE = 0.95


class Interval(msgspec.Struct, frozen=True):
    """Where a figure lies with the confidence of :data:`CONFIDENCE`."""

    low: float
    high: float


class Bootstrap(msgspec.Struct, frozen=True, kw_only=True):
    """How all intervals of a report were made."""

    resamples: int = RESAMPLES
    seed: int = SEED
    confidence: float = CONFIDENCE
    units: str = "pictures for objects, faces and scene; identities for identity"


def resample(units: int, resamples: int = RESAMPLES, seed: int = SEED) -> Double:
    """How often each of the units is drawn in each resample of as many, with replacement: (resamples, units)."""
    generator = np.random.default_rng(seed)
    if not units:
        return np.zeros((resamples, 0))
    return generator.multinomial(units, np.full(units, 1 / units), size=resamples).astype(np.float64)


def percentile_interval(values: Double) -> Interval | None:
    """The middle share :data:`CONFIDENCE` of a figure's ``values`` (R,); None when it has none.

    A resample in which the figure does not exist (not a number) is left out.
    """
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


def weighted_mean(values: Double | Flags, weights: Double) -> Double:
    """Mean of ``values`` (N,) or (R, N) under ``weights`` (R, N): (R,); values that are not a number are left out."""
    known = np.isfinite(values)
    total = (weights * known).sum(axis=1)
    sums = (weights * np.where(known, values, 0.0)).sum(axis=1)
    return np.asarray(np.divide(sums, total, out=np.full(len(total), np.nan), where=total > 0))


def resampled_precision(matches: Matches, weights: Double) -> Double:
    """Average precision under ``weights`` (R, P) of the pictures: (R, categories, 10 overlaps).

    Not a number for a category without boxes in a resample.
    """
    rows = [
        [weighted_average_precision(category, weights, iou) for iou in range(len(IOUS))]
        for category in matches.categories.values()
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def mean_over_categories(precision: Double) -> Double:
    """Mean of ``precision`` (R, categories) over those that have boxes: (R,); not a number where none has."""
    return weighted_mean(precision, np.ones_like(precision))


def pair_weights(identities: Sequence[tuple[str, str]], resamples: int = RESAMPLES) -> Double:
    """How often each pair of ``identities`` counts when identities, not pairs, are drawn: (resamples, pairs).

    A genuine pair counts as often as its identity was drawn, an impostor pair as often as the two of it can meet: the
    product (the vertex bootstrap of Snijders and Borgatti, "Non-Parametric Standard Errors and Tests for Network
    Statistics", Connections 22(2), 1999).
    """
    names, rows = np.unique(np.array(identities).ravel(), return_inverse=True)
    first, second = rows.reshape(-1, 2).T
    drawn = resample(len(names), resamples)
    return np.where(first == second, drawn[:, first], drawn[:, first] * drawn[:, second])
