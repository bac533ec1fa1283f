from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import DataError
from engines.evaluation.reliability import calibration_errors
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import standard_truth
from engines.tasks.scene.metrics import among_top, gather, score
from tests.engines.evaluation.colours import GREY, paint, write_scenes


def ece(confidence: npt.NDArray[np.float32], correct: npt.NDArray[np.bool_]) -> float:
    return float(calibration_errors(confidence.astype(float), correct, np.ones((1, len(correct))))[0])


def test_the_dog_folder_has_another_name_than_its_label(runner: ModelRunner, data: Path) -> None:
    scores = score(gather(runner, standard_truth(data, ["scene"])))
    assert scores.top1 == scores.top5 == 1.0
    assert scores.top1_by_label == {"cat": 1.0, "church": 1.0, "dog": 1.0}
    assert scores.pictures == 8
    assert scores.worst == []
    assert scores.ece == pytest.approx(0.1, abs=1e-6)  # always right, at a confidence of 0.9


def test_a_wrong_picture_lowers_its_own_label(runner: ModelRunner, tmp_path: Path) -> None:
    write_scenes(tmp_path)
    paint(tmp_path / "classification/cats_dogs/val/cat/0.png", (32, 32), [], ground=GREY["dog"])
    scores = score(gather(runner, standard_truth(tmp_path, ["scene"])))
    assert scores.top1 == pytest.approx(7 / 8)
    assert scores.top1_by_label == {"cat": 0.5, "church": 1.0, "dog": 1.0}
    assert (scores.labels, scores.confusion) == (["cat", "church", "dog"], [[1, 0, 1], [0, 2, 0], [0, 0, 4]])
    interval = scores.intervals["top1"]
    assert interval is not None and interval.low < scores.top1 < interval.high
    (worst,) = scores.worst
    assert (Path(worst.picture).name, worst.label, worst.predicted) == ("0.png", "cat", "dog")


def test_a_scene_that_the_model_does_not_know_is_named(runner: ModelRunner, tmp_path: Path) -> None:
    write_scenes(tmp_path)
    paint(tmp_path / "classification/imagenette10/val/harbour/0.png", (8, 8), [])
    with pytest.raises(DataError, match="a scene that the model does not know: harbour"):
        gather(runner, standard_truth(tmp_path, ["scene"]))


def test_a_missing_folder_is_named(runner: ModelRunner, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="imagenette10"):
        gather(runner, standard_truth(tmp_path, ["scene"]))


def test_perfectly_calibrated_predictions_have_no_error() -> None:
    confidence = np.repeat([0.5, 0.75], [4, 8]).astype(np.float32)
    correct = np.array([1, 1, 0, 0] + [1] * 6 + [0] * 2, np.bool_)
    assert ece(confidence, correct) == pytest.approx(0.0, abs=1e-7)


def test_the_error_is_weighted_by_how_many_predictions_a_bin_has() -> None:
    # 3 of 4 predictions at 0.9, all wrong: gap 0.9; one at 0.5, right: gap 0.5.
    confidence, correct = np.array([0.9, 0.9, 0.9, 0.5], np.float32), np.array([0, 0, 0, 1], np.bool_)
    assert ece(confidence, correct) == pytest.approx(0.75 * 0.9 + 0.25 * 0.5)


def test_gaps_of_both_signs_cancel_inside_a_bin_and_not_between_bins() -> None:
    same_bin = ece(np.array([0.61, 0.65], np.float32), np.array([True, False]))
    two_bins = ece(np.array([0.61, 0.69], np.float32), np.array([True, False]))
    assert same_bin == pytest.approx(0.13, abs=1e-6)
    assert two_bins == pytest.approx((0.39 + 0.69) / 2, abs=1e-6)


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_the_ends_of_the_scale_have_a_bin(confidence: float) -> None:
    assert ece(np.array([confidence], np.float32), np.array([bool(confidence)])) == 0.0


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=50))
def test_the_error_is_a_share_and_at_least_the_overall_gap(rows: list[tuple[float, bool]]) -> None:
    confidence = np.array([row[0] for row in rows], np.float32)
    correct = np.array([row[1] for row in rows], np.bool_)
    error = ece(confidence, correct)
    assert abs(correct.mean() - confidence.astype(float).mean()) - 1e-9 <= error <= 1.0 + 1e-9


def test_top_5_of_few_classes_is_always_right() -> None:
    probabilities = np.array([[0.1, 0.7, 0.2]], np.float32)
    found = [among_top(probabilities, np.array([0]), k).tolist() for k in (1, 2, 3, 5)]
    assert found == [[False], [False], [True], [True]]
