from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.data.coco import CocoBox, CocoSet
from engines.evaluation.coco import BoxDetection, average_precision
from engines.evaluation.matching import (
    IOUS,
    count_pictures,
    match,
    precision_recall,
    weighted_average_precision,
)

PICTURES = 4
HERE, THERE = (10, 10, 40, 40), (100, 10, 40, 40)


def truth(boxes: list[CocoBox]) -> CocoSet:
    return CocoSet({number: Path(f"{number}.png") for number in range(PICTURES)}, boxes, {1: "cat", 2: "dog"})


# Few positions and sizes, so that boxes overlap a lot, equally much, and not at all.
boxes = st.tuples(st.integers(0, 6), st.integers(0, 2), st.integers(4, 8), st.integers(4, 6))
places = st.tuples(st.integers(0, PICTURES - 1), st.integers(1, 2), boxes)


@given(
    wanted=st.lists(st.tuples(places, st.booleans()), max_size=15),
    found=st.lists(st.tuples(places, st.integers(1, 8)), max_size=40),
)
@settings(deadline=None)
def test_average_precision_is_that_of_faster_coco_eval(
    wanted: list[tuple[tuple[int, int, tuple[int, int, int, int]], bool]],
    found: list[tuple[tuple[int, int, tuple[int, int, int, int]], int]],
) -> None:
    data = truth(
        [
            CocoBox(number, picture, category, box, ignore=int(ignored and number > 0))
            for number, ((picture, category, box), ignored) in enumerate(wanted)
        ]
    )
    detections = [BoxDetection(picture, category, box, score / 8) for (picture, category, box), score in found]
    if not wanted or not detections:
        return
    reference, own = average_precision(data, detections), match(data, detections).categories
    once = np.ones((1, PICTURES))
    for name, category in own.items():
        values = [weighted_average_precision(category, once, iou)[0] for iou in range(len(IOUS))]
        if reference.ap[name] is None:
            assert np.isnan(values).all()
        else:
            assert values[0] == pytest.approx(reference.ap50[name], abs=1e-6)
            assert np.mean(values) == pytest.approx(reference.ap[name], abs=1e-6)


def test_a_picture_that_is_drawn_twice_counts_as_two_pictures() -> None:
    wanted = [CocoBox(1, 0, 1, HERE), CocoBox(2, 1, 1, HERE), CocoBox(3, 2, 1, HERE)]
    found = [BoxDetection(0, 1, HERE, 0.9), BoxDetection(1, 1, THERE, 0.8), BoxDetection(2, 1, HERE, 0.7)]
    doubled = [*wanted, CocoBox(4, 3, 1, HERE)]
    again = [*found, BoxDetection(3, 1, HERE, 0.7)]
    cat = match(truth(wanted), found).categories["cat"]
    twice = weighted_average_precision(cat, np.array([[1.0, 1.0, 2.0, 0.0]]))
    assert twice[0] == pytest.approx(average_precision(truth(doubled), again).ap50["cat"])


def test_a_resample_without_a_box_has_no_precision_and_one_without_a_hit_has_0() -> None:
    wanted = [CocoBox(1, 0, 1, HERE), CocoBox(2, 1, 1, HERE)]
    cat = match(truth(wanted), [BoxDetection(0, 1, HERE, 0.9)]).categories["cat"]
    weights = np.array([[0.0, 0.0, 4.0, 0.0], [0.0, 4.0, 0.0, 0.0]])
    values = weighted_average_precision(cat, weights)
    assert np.isnan(values[0]) and values[1] == 0.0


def test_pictures_are_counted_at_a_score_and_ignored_boxes_are_neither_right_nor_wrong() -> None:
    wanted = [CocoBox(1, 0, 1, HERE), CocoBox(2, 0, 1, THERE, ignore=1), CocoBox(3, 1, 2, HERE)]
    found = [
        BoxDetection(0, 1, HERE, 0.9),
        BoxDetection(0, 1, THERE, 0.8),
        BoxDetection(0, 2, HERE, 0.7),
        BoxDetection(1, 2, HERE, 0.2),
    ]
    counts = count_pictures(match(truth(wanted), found), 0.5)
    assert counts.right.tolist() == [1, 0, 0, 0]
    assert counts.wrong.tolist() == [1, 0, 0, 0]
    assert counts.missed.tolist() == [0, 1, 0, 0]
    assert counts.f1[:2].tolist() == [pytest.approx(2 / 3), 0.0]
    assert np.isnan(counts.f1[2:]).all(), "nothing to find and nothing found"


def test_the_curve_begins_at_the_best_detection() -> None:
    wanted = [CocoBox(1, 0, 1, HERE), CocoBox(2, 1, 1, HERE)]
    found = [BoxDetection(0, 1, THERE, 0.5), BoxDetection(0, 1, HERE, 0.9)]
    recall, precision = precision_recall(match(truth(wanted), found).categories["cat"])
    assert recall.tolist() == [0.5, 0.5]
    assert precision.tolist() == [1.0, 0.5]
