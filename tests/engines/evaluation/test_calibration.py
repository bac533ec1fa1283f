from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.data.coco import CocoBox, CocoSet
from engines.errors import DataError
from engines.evaluation.calibration import best_f_threshold, calibrate_thresholds, identity_threshold, matched
from engines.evaluation.coco import BoxDetection
from engines.evaluation.runner import Runner
from engines.evaluation.truth import standard_truth
from engines.spec import TASKS

HERE, THERE = (10, 10, 40, 40), (100, 10, 40, 40)


def test_thresholds_of_a_network_that_is_always_right(runner: Runner, data: Path) -> None:
    chosen = calibrate_thresholds(runner, standard_truth(data, TASKS))
    assert 0.0 < chosen.object_score <= 0.8
    assert 0.0 < chosen.face_score <= 0.9
    assert 0.9 < chosen.identity_similarity <= 1.0  # neighbours in the circle of 24 colours: cos 15 degrees is 0.966
    kept = runner.model.spec.thresholds
    assert (chosen.object_iou, chosen.face_iou) == (kept.object_iou, kept.face_iou)


def unit(rows: list[list[float]]) -> np.ndarray:
    array = np.array(rows, np.float32)
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_only_pairs_of_different_people_count() -> None:
    embeddings = unit([[1, 0], [1, 0], [0, 1], [0, 1]])
    threshold = identity_threshold(embeddings, np.array(["a", "a", "b", "b"]), 1e-3)
    assert 0.0 < threshold < 1e-3


def test_the_share_of_impostor_pairs_that_passes_is_at_most_the_rate() -> None:
    rng = np.random.default_rng(3)
    embeddings = unit(rng.normal(size=(300, 16)).tolist())
    people = np.arange(300) // 3
    threshold = identity_threshold(embeddings, people, 1e-3)
    impostors = (embeddings @ embeddings.T)[np.triu(people[:, None] != people[None], 1)]
    assert len(impostors) == 300 * 299 // 2 - 300
    assert (impostors >= threshold).sum() == int(1e-3 * len(impostors))


def test_pairs_across_sets_are_left_out() -> None:
    embeddings = unit([[1, 0], [0, 1], [1, 0], [0, 1]])
    people = np.array(["a", "b", "c", "d"])
    across = identity_threshold(embeddings, people, 0.0)
    within = identity_threshold(embeddings, people, 0.0, np.array(["x", "x", "y", "y"]))
    assert across > 1.0 - 1e-6
    assert within < 1e-3


def test_one_person_alone_gives_no_threshold() -> None:
    with pytest.raises(DataError, match="at least two people"):
        identity_threshold(unit([[1, 0], [0, 1]]), np.array(["a", "a"]))


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


def test_a_box_is_found_once_and_ignored_ones_count_for_nothing() -> None:
    boxes = [CocoBox(1, 1, 1, HERE), CocoBox(2, 1, 1, THERE, ignore=1), CocoBox(3, 2, 1, HERE)]
    truth = CocoSet({1: Path("1"), 2: Path("2")}, boxes, {1: "cat", 2: "dog"})
    detections = [
        BoxDetection(1, 1, HERE, 0.5),
        BoxDetection(1, 1, (11, 10, 40, 40), 0.9),  # surer, so this one is right and the other a repeat
        BoxDetection(1, 1, THERE, 0.8),
        BoxDetection(2, 2, HERE, 0.7),  # of another category
    ]
    scores, correct, wanted = matched(truth, detections)
    assert wanted == 2
    assert sorted(zip(scores.tolist(), correct.tolist(), strict=True)) == [(0.5, False), (0.7, False), (0.9, True)]


def test_a_small_beta_asks_for_more_precision() -> None:
    scores, correct = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4]), np.array([1, 1, 0, 0, 1, 1], np.bool_)
    assert best_f_threshold(scores, correct, 4) == pytest.approx(0.2)
    assert best_f_threshold(scores, correct, 4, beta=0.5) == pytest.approx(0.75)
