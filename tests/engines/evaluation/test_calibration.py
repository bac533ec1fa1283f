from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation.calibration import (
    TEMPERATURES,
    best_f_threshold,
    best_none_logit,
    best_temperature,
    calibrate_thresholds,
)
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import standard_truth
from engines.spec import USUAL_TASKS, Thresholds
from engines.tasks.identity.thresholds import FALSE_ACCEPT_RATE, calibrate_identity


def test_thresholds_of_a_network_that_is_always_right(runner: ModelRunner, data: Path) -> None:
    found = calibrate_thresholds(runner, standard_truth(data, USUAL_TASKS))
    chosen, kept = found.thresholds, runner.model.spec.thresholds
    assert chosen.object_curves is not None and chosen.object_scores is not None and chosen.face_curve is not None
    assert len(chosen.object_scores) == len(chosen.object_curves.values) == len(runner.model.spec.objects)
    assert 0.0 < chosen.object_score < 1.0
    assert 0.0 < chosen.face_score < 1.0
    assert 0.9 < chosen.identity_similarity <= 1.0  # neighbours in the circle of 24 colours: cos 15 degrees is 0.966
    assert (chosen.object_iou, chosen.face_iou) == (kept.object_iou, kept.face_iou)
    assert found.identity is not None
    assert max(each.similarity for each in found.identity.sets) == chosen.identity_similarity


def test_the_rate_that_is_stated_is_one_that_the_people_can_show(runner: ModelRunner, data: Path) -> None:
    truth = standard_truth(data, ["identity"]).identity
    assert truth is not None
    found = calibrate_identity(runner, truth, Thresholds(), SkippedRows()).identity
    assert found is not None
    assert found.false_accept_rate > FALSE_ACCEPT_RATE  # so few are they
    with pytest.raises(DataError, match=r"too few to show a false-accept rate of 0.001 against 10 people"):
        calibrate_identity(runner, truth, Thresholds(), SkippedRows(), far=1e-3)


@pytest.mark.parametrize(
    ("case", "scores", "correct", "wanted", "expected"),
    [
        ("mistakes lie below", [0.9, 0.8, 0.3], [1, 1, 0], 2, 0.55),
        ("a mistake on top is worth the rest", [0.9, 0.8, 0.7], [0, 1, 1], 2, 0.35),
        ("equal scores stay together", [0.9, 0.5, 0.5], [1, 0, 1], 1, 0.7),
        ("one detection", [0.6], [1], 4, 0.3),
    ],
)
def test_best_f1(case: str, scores: list[float], correct: list[int], wanted: int, expected: float) -> None:
    assert best_f_threshold(np.array(scores), np.array(correct, np.bool_), wanted) == pytest.approx(expected)


@given(st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=1, max_size=30), st.integers(0, 5))
def test_no_score_has_a_better_f1(rows: list[tuple[int, bool]], missed: int) -> None:
    scores = np.array([row[0] / 10 for row in rows])
    correct = np.array([row[1] for row in rows])
    if not correct.any():
        return
    wanted = int(correct.sum()) + missed

    def f1(threshold: float) -> float:
        kept = scores >= threshold
        return float(2 * correct[kept].sum() / (kept.sum() + wanted))

    best = f1(best_f_threshold(scores, correct, wanted))
    assert all(f1(cut) <= best + 1e-12 for cut in np.arange(0.05, 1.0, 0.1))


def test_a_model_that_finds_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="finds nothing"):
        best_f_threshold(np.array([0.5]), np.array([False]), 3)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_temperature_that_was_put_in_is_found_again(temperature: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (20_000, 5))
    target = np.array([random.choice(5, p=row) for row in softmax(logits, axis=1)])
    found = best_temperature(softmax(logits * temperature, axis=1).astype(np.float32), target)
    assert found == pytest.approx(temperature, rel=0.03)


def test_a_temperature_stays_in_its_bounds() -> None:
    sure = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)  # as sure as float32 can say
    always, never = np.array([0, 1]), np.array([1, 0])
    assert best_temperature(sure, never) == pytest.approx(TEMPERATURES[1], rel=1e-3)
    unsure = np.array([[0.6, 0.4], [0.4, 0.6]], np.float32)
    assert best_temperature(unsure, always) == pytest.approx(TEMPERATURES[0], rel=1e-3)


def test_none_of_these_parts_places_from_what_is_none() -> None:
    random = np.random.default_rng(0)
    places, none = random.normal(5, 1, 400), random.normal(1, 1, 50)  # energies; as many places as there are
    said = [(1 / (1 + np.exp(energy))).astype(np.float32) for energy in (places, none)]
    cut = best_none_logit(*said)
    assert 2.3 < cut < 3.7
    assert (places > cut).mean() > 0.9 and (none < cut).mean() > 0.9
