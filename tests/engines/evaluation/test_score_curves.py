"""Scores that were made surer or less sure than they are right."""

import numpy as np
import pytest
from scipy.special import expit, logit

from engines.arrays import Double
from engines.errors import DataError
from engines.evaluation.reliability import calibration_errors
from engines.evaluation.score_curves import ENOUGH, LabelDetections, fit_curves, fitted, thresholds_of
from engines.scores import calibrated

PICTURES = 200


def detections(truth: Double, said: Double, seed: int = 0) -> LabelDetections:
    """Detections that are right with the probability ``truth`` and score ``said``."""
    random = np.random.default_rng(seed)
    correct = random.uniform(size=len(truth)) < truth
    pictures = random.integers(0, PICTURES, len(truth))
    return LabelDetections(said, correct, pictures, np.bincount(pictures[correct], minlength=PICTURES))


def error(curves: object, label: LabelDetections, row: int = 0) -> float:
    """Expected calibration error of a label with its curve."""
    labels = np.full(len(label.scores), row)
    said = calibrated(curves, label.scores.astype(np.float32), labels).astype(np.float64)  # type: ignore[arg-type]
    return float(calibration_errors(said, label.correct, np.ones((1, len(said))))[0])


def spread(count: int, seed: int) -> Double:
    return np.random.default_rng(seed).uniform(0.02, 0.98, count)


@pytest.mark.parametrize(("slope", "shift"), [(0.5, 0.0), (1.0, -1.0), (2.0, 1.0)])
def test_sure_and_unsure_scores_become_probabilities(slope: float, shift: float) -> None:
    truth = spread(4000, 1)
    said = expit(slope * logit(truth) + shift)
    learnt, other = detections(truth, said, 2), detections(truth, said, 3)
    curves = fit_curves([learnt])
    assert curves.method == "sigmoid"
    assert error(curves, other) < 0.03
    assert error(None, other) > 2 * error(curves, other)


def test_a_step_is_found_by_the_isotonic_curve() -> None:
    said = spread(6000, 1)
    truth = np.where(said < 0.5, 0.1, 0.8)
    curves = fit_curves([detections(truth, said, 2)])
    assert curves.method == "isotonic"
    assert error(curves, detections(truth, said, 3)) < 0.05  # the knots about the step are 0.05 from it
    assert (np.diff(np.array(curves.values)) > 0).all(), "two scores that differ stay apart"


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_each_label_has_its_own_curve_and_a_rare_one_that_of_all(method: object) -> None:
    truth = spread(3000, 1)
    sure, unsure = detections(truth, truth**2, 2), detections(truth, np.sqrt(truth), 3)
    rare = detections(np.full(3, 0.5), np.full(3, 0.5), 4)
    labels = [sure, unsure, rare]
    curves = fitted(labels, method)  # type: ignore[arg-type]
    for row, label in enumerate(labels[:2]):
        assert error(curves, label, row) < 0.04
    low, high, usual_value = (float(np.interp(0.5, curves.knots, curves.values[row])) for row in (1, 0, 2))
    assert low + 0.1 < usual_value < high - 0.1
    usual, scores = thresholds_of(labels, curves)
    assert scores[2] == usual


def test_thresholds_are_of_the_best_f1() -> None:
    count = 10 * ENOUGH
    label = detections(np.where(np.arange(count) % 2, 0.95, 0.05), np.where(np.arange(count) % 2, 0.8, 0.3))
    curves = fit_curves([label])
    usual, (own,) = thresholds_of([label], curves)
    low, high = calibrated(curves, np.array([0.3, 0.8], np.float32)).tolist()
    assert low < own < high
    assert usual == own


def test_a_label_that_is_mostly_wrong_is_shown_no_sooner_than_the_others() -> None:
    count = 20 * ENOUGH
    good = detections(np.where(np.arange(count) % 2, 0.95, 0.05), np.where(np.arange(count) % 2, 0.8, 0.3))
    weak = detections(np.full(count, 0.15), np.full(count, 0.4) + np.arange(count) * 1e-5)
    curves = fit_curves([good, weak])
    usual, scores = thresholds_of([good, weak], curves)
    (said,) = calibrated(curves, np.array([0.41], np.float32), np.array([1])).tolist()
    assert said < 0.5 * usual, "alone it would be shown from below here on"
    assert scores == (usual, usual)


def test_a_model_that_finds_nothing_is_refused() -> None:
    nothing = detections(np.zeros(5), np.full(5, 0.5))
    with pytest.raises(DataError, match="finds nothing"):
        fit_curves([nothing])
