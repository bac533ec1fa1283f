import math
from dataclasses import fields

import msgspec
import numpy as np
import pytest

from engines.boxes import letterbox
from engines.decode import Detections, decode
from engines.nms import Suppression
from engines.spec import Thresholds

THRESHOLDS = Thresholds(object_score=0.3, object_iou=0.5, face_score=0.4, face_iou=0.5)
IOU = 1 / 3  # of squares that half overlap
BOX = letterbox((1920, 1080), (640, 384))  # a third, 12 pixels down


def outputs(batch: int = 1, labels: type = np.int32) -> dict[str, np.ndarray]:
    """A batch in which the network is sure of nothing; tests fill in what they need."""
    return {
        "object_boxes": np.zeros((batch, 300, 4), np.float32),
        "object_scores": np.zeros((batch, 300), np.float32),
        "object_labels": np.zeros((batch, 300), labels),
        "face_boxes": np.zeros((batch, 100, 4), np.float32),
        "face_scores": np.zeros((batch, 100), np.float32),
        "face_landmarks": np.zeros((batch, 100, 5, 2), np.float32),
        "scene": np.tile(np.array([0.7, 0.2, 0.1], np.float32), (batch, 1)),
    }


def only(raw: dict[str, np.ndarray], thresholds: Thresholds, suppression: Suppression = "class-aware") -> Detections:
    """The detections of the only picture of a batch."""
    (seen,) = decode(raw, [BOX], thresholds, suppression)
    return seen


def test_nothing_seen_gives_empty_arrays_of_the_right_shapes() -> None:
    seen = only(outputs(), THRESHOLDS)
    assert (seen.objects.boxes.shape, seen.objects.scores.shape, seen.objects.labels.shape) == ((0, 4), (0,), (0,))
    assert (seen.faces.boxes.shape, seen.faces.scores.shape, seen.faces.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))
    assert seen.scene.tolist() == pytest.approx([0.7, 0.2, 0.1])


@pytest.mark.parametrize("task", ["object", "face", "scene"])
def test_of_a_task_that_the_model_does_not_have_nothing_is_seen(task: str) -> None:
    raw = outputs()
    raw["object_boxes"][0, 0] = raw["face_boxes"][0, 0] = [100, 112, 200, 212]
    raw["object_scores"][0, 0] = raw["face_scores"][0, 0] = 0.8
    seen = only({name: values for name, values in raw.items() if not name.startswith(task)}, THRESHOLDS)
    counts = {"object": len(seen.objects.scores), "face": len(seen.faces.scores), "scene": len(seen.scene)}
    assert counts == {"object": 1, "face": 1, "scene": 3} | {task: 0}
    assert (seen.objects.boxes.shape[1:], seen.faces.boxes.shape[1:], seen.faces.landmarks.shape[1:]) == (
        (4,),
        (4,),
        (5, 2),
    )


@pytest.mark.parametrize("kind", [np.int32, np.int64])
def test_an_object_is_mapped_to_source_pixels(kind: type) -> None:
    raw = outputs(batch=2, labels=kind)
    raw["object_boxes"][1, 0] = [100, 112, 200, 212]
    raw["object_scores"][1, 0] = 0.8
    raw["object_labels"][1, 0] = 17
    objects = decode(raw, [BOX, BOX], THRESHOLDS)[1].objects
    np.testing.assert_allclose(objects.boxes, [[300, 300, 600, 600]], atol=1e-3)
    assert objects.scores.tolist() == pytest.approx([0.8])
    assert objects.labels.tolist() == [17]
    assert (objects.boxes.dtype, objects.scores.dtype, objects.labels.dtype) == (np.float32, np.float32, np.int32)
    assert len(decode(raw, [BOX, BOX], THRESHOLDS)[0].objects.boxes) == 0, "the other picture of the batch saw nothing"


def test_duplicates_of_one_class_go_and_those_of_two_stay() -> None:
    raw = outputs()
    raw["object_boxes"][0, :3] = [[100, 100, 200, 200], [101, 100, 201, 200], [100, 101, 200, 201]]
    raw["object_scores"][0, :3] = [0.9, 0.8, 0.7]
    raw["object_labels"][0, :3] = [1, 1, 2]
    objects = only(raw, THRESHOLDS).objects
    assert objects.scores.tolist() == pytest.approx([0.9, 0.7])
    assert objects.labels.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("suppression", "scores"),
    [("class-aware", [0.9, 0.7]), ("class-agnostic", [0.9]), ("soft", [0.9, 0.7, 0.8 * math.exp(-(IOU**2) / 0.5)])],
)
def test_how_objects_suppress_each_other_can_be_chosen(suppression: Suppression, scores: list[float]) -> None:
    raw = outputs()
    raw["object_boxes"][0, :3] = [[100, 100, 200, 200], [150, 100, 250, 200], [110, 100, 210, 200]]
    raw["object_scores"][0, :3] = [0.9, 0.8, 0.7]
    raw["object_labels"][0, :3] = [1, 1, 2]
    low = msgspec.structs.replace(THRESHOLDS, object_iou=0.3)
    assert only(raw, low, suppression).objects.scores.tolist() == pytest.approx(scores)


def test_what_soft_suppression_fades_below_the_threshold_is_not_seen() -> None:
    raw = outputs()
    raw["object_boxes"][0, :2] = [[100, 100, 200, 200], [101, 100, 201, 200]]
    raw["object_scores"][0, :2] = [0.9, 0.8]
    assert only(raw, THRESHOLDS, "soft").objects.scores.tolist() == pytest.approx([0.9])


def test_a_face_keeps_its_own_landmarks() -> None:
    raw = outputs()
    raw["face_boxes"][0, :3] = [[10, 20, 40, 60], [11, 20, 41, 60], [300, 100, 330, 140]]
    raw["face_scores"][0, :3] = [0.9, 0.8, 0.7]
    raw["face_landmarks"][0, 0] = 30.0
    raw["face_landmarks"][0, 2] = 312.0
    faces = only(raw, THRESHOLDS).faces
    assert faces.scores.tolist() == pytest.approx([0.9, 0.7])
    np.testing.assert_allclose(faces.landmarks[:, 0], [[90, 54], [936, 900]], atol=1e-3)


def test_boxes_are_clipped_to_the_picture_and_those_in_the_bars_removed() -> None:
    raw = outputs()
    raw["object_boxes"][0, :3] = [[-30, 300, 60, 384], [100, 0, 200, 11], [100, 100, 200, 200]]
    raw["object_scores"][0, :3] = [0.9, 0.8, 0.7]
    raw["face_boxes"][0, :2] = [[0, 373, 50, 384], [600, 300, 660, 390]]
    raw["face_scores"][0, :2] = [0.9, 0.8]
    seen = only(raw, THRESHOLDS)
    np.testing.assert_allclose(seen.objects.boxes, [[0, 864, 180, 1080], [300, 264, 600, 564]], atol=1e-3)
    assert seen.objects.scores.tolist() == pytest.approx([0.9, 0.7])
    np.testing.assert_allclose(seen.faces.boxes, [[1800, 864, 1920, 1080]], atol=1e-3)
    assert len(seen.faces.landmarks) == 1


def test_a_score_at_its_threshold_counts_and_evaluation_may_ask_for_less() -> None:
    raw = outputs()
    raw["object_boxes"][0, :2] = [[10, 20, 30, 40], [100, 120, 130, 140]]
    raw["object_scores"][0, :2] = [0.5, 0.02]
    half = msgspec.structs.replace(THRESHOLDS, object_score=0.5)
    assert len(only(raw, half).objects.boxes) == 1
    low = msgspec.structs.replace(THRESHOLDS, object_score=0.01)
    assert len(only(raw, low).objects.boxes) == 2


def test_scores_that_are_not_numbers_are_not_detections() -> None:
    raw = outputs()
    raw["object_boxes"][0, 0] = [10, 20, 30, 40]
    raw["object_scores"][0, 0] = np.nan
    assert len(only(raw, THRESHOLDS).objects.boxes) == 0


def test_results_do_not_change_with_the_outputs_they_came_from() -> None:
    raw = outputs()
    raw["object_boxes"][0, 0] = [10, 20, 30, 40]
    raw["object_scores"][0, 0] = 0.9
    seen = only(raw, THRESHOLDS)
    for values in raw.values():
        values[...] = 0
    assert seen.objects.scores.tolist() == pytest.approx([0.9])
    assert seen.scene.tolist() == pytest.approx([0.7, 0.2, 0.1])


@pytest.mark.parametrize("suppression", ["class-aware", "class-agnostic", "soft"])
def test_a_batch_gives_what_its_pictures_give_alone(suppression: Suppression) -> None:
    rng, boxes = (
        np.random.default_rng(3),
        [letterbox(size, (640, 384)) for size in [(1920, 1080), (300, 900), (64, 64)]],
    )
    boxes.insert(1, boxes[0])
    raw = outputs(batch=4)
    for task in ("object", "face"):
        corners = rng.uniform(0, 600, (4, 300, 2))[:, : raw[f"{task}_scores"].shape[1]]
        raw[f"{task}_boxes"] = np.concatenate(
            [corners, corners + rng.uniform(20, 90, corners.shape)], axis=-1, dtype=np.float32
        )
        raw[f"{task}_scores"] = rng.random(corners.shape[:2], np.float32).round(2)
    raw["object_labels"] = rng.integers(0, 3, (4, 300)).astype(np.int32)
    raw["face_landmarks"] = rng.uniform(0, 600, (4, 100, 5, 2)).astype(np.float32)
    raw["scene"] = rng.random((4, 3), np.float32)
    raw["object_scores"][2] = raw["face_scores"][3] = 0.0
    together = decode(raw, boxes, THRESHOLDS, suppression)
    assert len(together) == 4
    for row, (seen, box) in enumerate(zip(together, boxes, strict=True)):
        (alone,) = decode({name: values[row : row + 1] for name, values in raw.items()}, [box], THRESHOLDS, suppression)
        assert (len(seen.objects.boxes) > 0, len(seen.faces.boxes) > 0) == (row != 2, row != 3)
        assert (seen.objects.boxes[:, 2:].max(axis=0, initial=0.0) <= box.source).all()
        for one, other in ((seen.objects, alone.objects), (seen.faces, alone.faces)):
            for field in (each.name for each in fields(one)):
                np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        np.testing.assert_array_equal(seen.scene, alone.scene)


def test_only_the_best_rows_of_each_picture_are_looked_at() -> None:
    raw = outputs(batch=2)
    x = 2.0 * np.arange(310, dtype=np.float32)  # side by side, so that nothing suppresses anything
    raw["object_boxes"] = np.tile(np.stack([x, 0 * x + 100, x + 1, 0 * x + 110], axis=1), (2, 1, 1))
    raw["object_scores"] = np.stack([np.linspace(0.4, 0.9, 310), np.linspace(0.9, 0.4, 310)]).astype(np.float32)
    raw["object_labels"] = np.zeros((2, 310), np.int32)
    rising, falling = (seen.objects.scores for seen in decode(raw, [BOX, BOX], THRESHOLDS))
    assert rising.tolist() == raw["object_scores"][0, :9:-1].tolist()
    assert falling.tolist() == raw["object_scores"][1, :300].tolist()
