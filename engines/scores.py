"""What the network's scores mean: curves from a score to the share of detections that are right, label by label."""

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from engines.arrays import Double, Float, Labels
from engines.spec import ScoreCurves, Thresholds

ROUNDING: Final = 1e-6  # share of a score that single precision may lose on the way


class Wanted(NamedTuple):
    """Which detections of a kind are wanted."""

    least: float  # score of the network below which nothing is
    by_label: Float | None  # (C,) the probability from which each label is; None: all that reach ``least`` are


def calibrated(curves: ScoreCurves | None, scores: Float, labels: Labels | None = None) -> Float:
    """Scores (N,) of the network as probabilities; as they are where there are no curves.

    Args:
        curves: one for each label.
        scores: in [0, 1].
        labels: (N,) of each; None: all are of the first.
    """
    if curves is None or not len(scores):
        return scores
    knots, values, slopes = _table(curves)
    row = np.zeros(len(scores), np.intp) if labels is None else labels
    place = np.minimum(np.searchsorted(knots, scores, side="right") - 1, len(knots) - 2)
    return np.asarray(values[row, place] + slopes[row, place] * (scores - knots[place]), np.float32)


def probabilities_at(curves: ScoreCurves, score: float) -> list[float]:
    """What each label's curve makes of one score of the network, rounded down."""
    labels = np.arange(len(curves.values))
    found = calibrated(curves, np.full(len(labels), score, np.float32), labels.astype(np.int32))
    return [max(0.0, each * (1 - ROUNDING)) for each in found.tolist()]


@lru_cache(maxsize=64)
def wanted_objects(thresholds: Thresholds) -> Wanted:
    """Which objects reach their thresholds."""
    return _wanted(thresholds.object_score, thresholds.object_scores, thresholds.object_curves)


@lru_cache(maxsize=64)
def wanted_faces(thresholds: Thresholds) -> Wanted:
    """Which faces reach their threshold."""
    return _wanted(thresholds.face_score, None, thresholds.face_curve)


def _wanted(score: float, scores: tuple[float, ...] | None, curves: ScoreCurves | None) -> Wanted:
    if scores is None and curves is None:
        return Wanted(score, None)
    count = len(curves.values) if curves is not None else len(scores or ())
    by_label = np.asarray(scores or [score] * count, np.float32)
    if curves is None:
        return Wanted(float(by_label.min()), by_label)
    knots, values, _ = _table(curves)
    # Of a flat part its lowest score; of a threshold that no score reaches the highest.
    reached = [np.interp(each, *_rising(row, knots)) for each, row in zip(by_label.tolist(), values, strict=True)]
    return Wanted(float(min(reached)) * (1 - ROUNDING), by_label)


def _rising(values: Double, knots: Double) -> tuple[Double, Double]:
    first = np.concatenate([[True], np.diff(values) > 0])
    return values[first], knots[first]


@lru_cache(maxsize=64)
def _table(curves: ScoreCurves) -> tuple[Double, Double, Double]:
    """Knots (K,), values (C, K) and slopes (C, K - 1)."""
    knots, values = np.array(curves.knots, np.float64), np.array(curves.values, np.float64)
    return knots, values, np.diff(values, axis=1) / np.diff(knots)
