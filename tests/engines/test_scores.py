"""Curves from the network's scores to probabilities, and thresholds of each label."""

import msgspec
import numpy as np
import pytest

from engines.boxes import Letterbox
from engines.decode import decode
from engines.nms import Suppression
from engines.scores import calibrated, probabilities_at, wanted_faces, wanted_objects
from engines.spec import ScoreCurves, Thresholds

KNOTS = (0.0, 0.2, 0.5, 1.0)
CURVES = ScoreCurves("isotonic", KNOTS, ((0.0, 0.4, 0.8, 1.0), (0.0, 0.1, 0.1, 0.6)))
WHOLE = Letterbox((64, 64), (64, 64), (64, 64), (0, 0))


def outputs(scores: list[float], labels: list[int]) -> dict[str, np.ndarray]:
    """Boxes apart from each other."""
    left = 6.0 * np.arange(len(scores))
    boxes = np.stack([left, left, left + 5, left + 5], axis=1)[None].astype(np.float32)
    return {
        "object_boxes": boxes,
        "object_scores": np.array([scores], np.float32),
        "object_labels": np.array([labels], np.int32),
        "face_boxes": boxes,
        "face_scores": np.array([scores], np.float32),
        "face_landmarks": np.zeros((1, len(scores), 5, 2), np.float32),
    }


def test_scores_are_straight_between_the_knots() -> None:
    scores = np.array([0.0, 0.1, 0.2, 0.35, 1.0, 0.35], np.float32)
    labels = np.array([0, 0, 0, 0, 0, 1], np.int32)
    np.testing.assert_allclose(calibrated(CURVES, scores, labels), [0.0, 0.2, 0.4, 0.6, 1.0, 0.1], atol=1e-6)
    np.testing.assert_allclose(calibrated(CURVES, scores[:4]), [0.0, 0.2, 0.4, 0.6], atol=1e-6)
    assert calibrated(None, scores, labels) is scores


@pytest.mark.parametrize("suppression", ["class-aware", "class-agnostic", "soft"])
def test_objects_bear_probabilities_and_each_label_has_its_threshold(suppression: Suppression) -> None:
    rows = outputs([0.9, 0.8, 0.5, 0.35, 0.1], [1, 0, 1, 0, 0])
    thresholds = Thresholds(object_scores=(0.5, 0.2), object_curves=CURVES, face_score=1.0)
    (found,) = decode(rows, [WHOLE], thresholds, suppression)
    shown = sorted(zip(found.objects.labels.tolist(), found.objects.scores.round(3).tolist(), strict=True))
    assert [label for label, _ in shown] == [0, 0, 1]
    assert [score for _, score in shown] == pytest.approx([0.6, 0.92, 0.5], abs=1e-3)


def test_thresholds_of_labels_hold_without_curves() -> None:
    (found,) = decode(outputs([0.9, 0.8, 0.5, 0.35], [1, 0, 1, 0]), [WHOLE], Thresholds(object_scores=(0.3, 0.6)))
    assert sorted(found.objects.scores.tolist()) == pytest.approx([0.35, 0.8, 0.9])


def test_one_threshold_for_all_labels_is_compared_with_probabilities() -> None:
    thresholds = Thresholds(object_scores=(0.1, 0.1), object_curves=CURVES).at(object_score=0.55)
    assert thresholds.object_scores is None
    (found,) = decode(outputs([0.9, 0.8, 0.5, 0.35], [1, 0, 1, 0]), [WHOLE], thresholds)
    assert sorted(found.objects.scores.tolist()) == pytest.approx([0.6, 0.92])


def test_faces_bear_probabilities() -> None:
    curve = msgspec.structs.replace(CURVES, values=CURVES.values[:1])
    thresholds = Thresholds(face_curve=curve, face_score=0.5, object_score=1.0)
    (found,) = decode(outputs([0.9, 0.35, 0.2], [0, 0, 0]), [WHOLE], thresholds)
    np.testing.assert_allclose(found.faces.scores, [0.96, 0.6], atol=1e-6)


def test_what_is_passed_over_at_once_is_what_no_label_wants() -> None:
    thresholds = Thresholds(object_scores=(0.5, 0.2), object_curves=CURVES)
    assert wanted_objects(thresholds).least == pytest.approx(0.275, rel=1e-5)
    assert wanted_objects(Thresholds(object_score=0.3)).least == 0.3
    assert wanted_faces(Thresholds(face_score=0.3)).by_label is None
    rows = np.random.default_rng(0).uniform(0, 1, 200).astype(np.float32)
    for label, threshold in enumerate((0.5, 0.2)):
        reached = calibrated(CURVES, rows, np.full(200, label, np.int32)) >= threshold
        assert (rows[reached] >= wanted_objects(thresholds).least).all()


@pytest.mark.parametrize(
    ("knots", "values", "sentence"),
    [
        ((0.1, 1.0), ((0.0, 1.0),), "knots must rise from 0 to 1"),
        ((0.0, 0.5, 0.5, 1.0), ((0.0, 0.1, 0.2, 1.0),), "knots must rise from 0 to 1"),
        ((0.0, 1.0), (), "values must have a row for each label"),
        ((0.0, 1.0), ((0.0, 0.5, 1.0),), "values must have a row for each label"),
        ((0.0, 1.0), ((0.6, 0.5),), "none below the last"),
    ],
)
def test_curves_that_are_none_are_refused(
    knots: tuple[float, ...], values: tuple[tuple[float, ...], ...], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        ScoreCurves("sigmoid", knots, values)


def test_evaluation_looks_at_the_same_detections_with_and_without_curves() -> None:
    random = np.random.default_rng(0)
    rows = outputs(random.uniform(0, 0.05, 10).tolist(), random.integers(0, 2, 10).tolist())
    rows["object_boxes"] = np.clip(rows["object_boxes"], 0, 64)
    plain = Thresholds(object_score=0.02, face_score=1.0)
    curved = msgspec.structs.replace(
        plain, object_curves=CURVES, object_scores=tuple(probabilities_at(CURVES, 0.02)), face_score=1.0
    )
    found = [decode(rows, [WHOLE], each)[0].objects.boxes for each in (plain, curved)]
    assert len(found[0]) > 2
    np.testing.assert_array_equal(*(np.sort(boxes, axis=0) for boxes in found))
