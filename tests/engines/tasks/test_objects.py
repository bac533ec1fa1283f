from pathlib import Path

import pytest

from engines.errors import DataError
from engines.evaluation.bootstrap import Interval
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import standard_truth
from engines.tasks.objects.metrics import gather, score
from tests.engines.evaluation.colours import COLOUR, paint, write_coco


def test_a_network_that_is_always_right_has_ap50_1(runner: ModelRunner, data: Path) -> None:
    scores = score(gather(runner, standard_truth(data, ["objects"])))
    assert scores.ap50 == pytest.approx(1.0)
    assert scores.person_ap50 == pytest.approx(1.0)
    assert scores.ap is not None and scores.ap > 0.85  # boxes are whole pixels of the network's input
    assert scores.ap50_by_label.keys() == {"cat", "person"}
    assert (scores.pictures, scores.boxes, scores.ignored, scores.skipped) == (3, 6, 0, [])
    assert scores.intervals.keys() == {"ap", "ap50", "ap75", "person_ap50", "cat_ap50"}
    assert scores.intervals["ap50"] == Interval(pytest.approx(1.0), pytest.approx(1.0))
    assert scores.worst == []


def test_a_difficult_box_is_counted_apart_and_is_no_miss(runner: ModelRunner, tmp_path: Path) -> None:
    cat = (10, 10, 60, 40)
    paint(tmp_path / "detection/images/val/1.png", (160, 160), [(cat, COLOUR["cat"])])
    hard = {"image_id": 1, "category_id": 1, "bbox": [100, 100, 30, 30], "ignore": 1}
    rows = [{"image_id": 1, "category_id": 1, "bbox": cat}, hard]
    write_coco(tmp_path / "detection", "instances_val.json", ["cat"], ["1.png"], rows)
    scores = score(gather(runner, standard_truth(tmp_path, ["objects"])))
    assert scores.ap50 == pytest.approx(1.0)
    assert (scores.boxes, scores.ignored) == (1, 1)
    assert scores.person_ap50 is None  # the data says nothing about people


def test_labels_are_matched_by_name_and_not_by_number(runner: ModelRunner, tmp_path: Path) -> None:
    person = (10, 10, 60, 40)
    paint(tmp_path / "detection/images/val/1.png", (160, 160), [(person, COLOUR["person"])])
    rows = [{"image_id": 1, "category_id": 1, "bbox": person}]
    write_coco(tmp_path / "detection", "instances_val.json", ["person", "cat"], ["1.png"], rows)
    scores = score(gather(runner, standard_truth(tmp_path, ["objects"])))
    assert scores.ap50_by_label == {"person": pytest.approx(1.0), "cat": None}


def test_a_label_that_the_model_does_not_know_is_named(runner: ModelRunner, tmp_path: Path) -> None:
    rows = [{"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]
    write_coco(tmp_path / "detection", "instances_val.json", ["zebra", "cat"], ["1.png"], rows)
    with pytest.raises(DataError, match="objects that the model does not know: zebra"):
        gather(runner, standard_truth(tmp_path, ["objects"]))


def test_a_picture_that_cannot_be_read_is_left_out_with_its_boxes(runner: ModelRunner, tmp_path: Path) -> None:
    names = [f"{number}.png" for number in range(1, 101)]
    cat = (10, 10, 60, 40)
    for name in names[:-1]:
        paint(tmp_path / "detection/images/val" / name, (160, 160), [(cat, COLOUR["cat"])])
    rows = [{"image_id": number, "category_id": 1, "bbox": cat} for number in range(1, 101)]
    write_coco(tmp_path / "detection", "instances_val.json", ["cat"], names, rows)
    scores = score(gather(runner, standard_truth(tmp_path, ["objects"])))
    assert scores.ap50 == pytest.approx(1.0)
    assert (scores.pictures, scores.boxes) == (99, 99)
    (reason,) = scores.skipped
    assert "100.png: cannot be read" in reason


def test_a_set_without_pictures_has_no_figures(runner: ModelRunner, tmp_path: Path) -> None:
    write_coco(tmp_path / "detection", "instances_val.json", ["cat"], [], [])
    scores = score(gather(runner, standard_truth(tmp_path, ["objects"])))
    assert scores.ap50 is scores.ap_small is scores.ar100 is scores.intervals["ap50"] is None


def test_more_unreadable_pictures_than_tolerated_are_refused(runner: ModelRunner, tmp_path: Path) -> None:
    write_coco(tmp_path / "detection", "instances_val.json", ["cat"], ["1.png", "2.png"], [])
    with pytest.raises(DataError, match="1 of 2 rows cannot be read"):
        gather(runner, standard_truth(tmp_path, ["objects"]))
