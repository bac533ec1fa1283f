from pathlib import Path

import numpy as np
import pytest

from engines.data.coco import CocoBox, CocoSet
from engines.evaluation.coco import BoxDetection, average_precision, detections_of, mean_of

HERE, THERE, ELSEWHERE = (10, 10, 40, 40), (100, 10, 40, 40), (10, 100, 40, 40)


def truth(*boxes: CocoBox, categories: tuple[str, ...] = ("cat",), pictures: int = 1) -> CocoSet:
    names = dict(enumerate(categories, start=1))
    return CocoSet({number: Path(f"{number}.png") for number in range(1, pictures + 1)}, list(boxes), names)


def found(box: tuple[float, float, float, float], score: float, image: int = 1, category: int = 1) -> BoxDetection:
    return BoxDetection(image, category, box, score)


def test_perfect_detections_have_ap_1() -> None:
    scores = average_precision(
        truth(CocoBox(1, 1, 1, HERE), CocoBox(2, 1, 1, THERE)), [found(HERE, 0.9), found(THERE, 0.2)]
    )
    assert scores.ap == {"cat": pytest.approx(1.0)}
    assert scores.ap50 == {"cat": pytest.approx(1.0)}


def test_one_of_two_boxes_found_has_the_precision_of_51_of_101_recall_points() -> None:
    scores = average_precision(truth(CocoBox(1, 1, 1, HERE), CocoBox(2, 1, 1, THERE)), [found(HERE, 0.9)])
    assert scores.ap50["cat"] == pytest.approx(51 / 101)


def test_a_mistake_ranked_first_halves_the_precision() -> None:
    scores = average_precision(truth(CocoBox(1, 1, 1, HERE)), [found(ELSEWHERE, 0.9), found(HERE, 0.8)])
    assert scores.ap50["cat"] == pytest.approx(0.5)


def test_a_box_with_an_iou_of_060_counts_in_3_of_10_overlaps() -> None:
    shifted = (20, 10, 40, 40)  # 30 of 50 columns in common
    scores = average_precision(truth(CocoBox(1, 1, 1, HERE)), [found(shifted, 0.9)])
    assert scores.ap50["cat"] == pytest.approx(1.0)
    assert scores.ap["cat"] == pytest.approx(0.3)


@pytest.mark.parametrize("mark", ["ignore", "iscrowd"])
def test_an_ignored_box_is_no_miss_and_detections_on_it_are_no_mistakes(mark: str) -> None:
    boxes = truth(CocoBox(1, 1, 1, HERE), CocoBox(2, 1, 1, THERE, **{mark: 1}))
    missed = average_precision(boxes, [found(HERE, 0.5)])
    doubled = average_precision(boxes, [found(THERE, 0.9), found(THERE, 0.8), found(HERE, 0.5)])
    assert missed.ap["cat"] == pytest.approx(1.0)
    assert doubled.ap["cat"] == pytest.approx(1.0)


def test_boxes_are_parted_by_their_area_in_source_pixels() -> None:
    small, large = (10, 100, 31, 31), (100, 10, 97, 97)
    scores = average_precision(
        truth(CocoBox(1, 1, 1, small), CocoBox(2, 1, 1, HERE), CocoBox(3, 1, 1, large)),
        [found(small, 0.9), found(large, 0.8)],
    )
    assert (scores.ap_small["cat"], scores.ap_medium["cat"], scores.ap_large["cat"]) == (
        pytest.approx(1.0),
        0.0,
        pytest.approx(1.0),
    )
    assert scores.ar100["cat"] == pytest.approx(2 / 3)


def test_a_box_with_an_iou_of_060_is_not_found_at_075() -> None:
    scores = average_precision(truth(CocoBox(1, 1, 1, HERE)), [found((20, 10, 40, 40), 0.9)])
    assert scores.ap75["cat"] == 0.0
    assert scores.ar100["cat"] == pytest.approx(0.3)


def test_a_second_detection_of_one_box_is_a_mistake() -> None:
    boxes = truth(CocoBox(1, 1, 1, HERE), CocoBox(2, 1, 1, THERE))
    scores = average_precision(boxes, [found(HERE, 0.9), found(HERE, 0.8), found(THERE, 0.7)])
    assert scores.ap50["cat"] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_boxes_whose_file_counts_from_0_are_found_all_the_same() -> None:
    scores = average_precision(truth(CocoBox(0, 1, 1, HERE)), [found(HERE, 0.9)])
    assert scores.ap["cat"] == pytest.approx(1.0)


def test_nothing_found_is_0_and_a_category_without_boxes_is_none() -> None:
    scores = average_precision(truth(CocoBox(1, 1, 1, HERE), categories=("cat", "dog")), [])
    assert scores.ap == {"cat": 0.0, "dog": None}
    assert mean_of(scores.ap) == 0.0
    assert mean_of({"dog": None}) is None


def test_detections_in_a_picture_without_boxes_are_mistakes() -> None:
    boxes = truth(CocoBox(1, 1, 1, HERE), pictures=2)
    scores = average_precision(boxes, [found(HERE, 0.9, image=2), found(HERE, 0.8)])
    assert scores.ap50["cat"] == pytest.approx(0.5)


def test_at_most_a_hundred_detections_a_picture_best_first() -> None:
    boxes = np.tile(np.array([[1, 2, 4, 8]], np.float32), (120, 1))
    rows = detections_of(5, boxes, np.linspace(1, 0, 120, dtype=np.float32), [3] * 120)
    assert len(rows) == 100
    assert rows[0] == BoxDetection(5, 3, (1.0, 2.0, 3.0, 6.0), 1.0)
