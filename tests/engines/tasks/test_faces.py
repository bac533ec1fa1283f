from pathlib import Path

import pytest

from engines.errors import DataError
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import standard_truth
from engines.tasks.faces.metrics import gather, score
from tests.engines.evaluation.colours import write_coco


def test_faces_found_where_they_are_and_one_that_is_not_there(runner: ModelRunner, data: Path) -> None:
    scores = score(gather(runner, standard_truth(data, ["faces"])))
    assert scores.ap50 == pytest.approx(1.0)
    assert scores.nme is not None and scores.nme < 0.03
    assert scores.nme_box is not None and scores.nme_box < scores.nme
    assert (scores.pictures, scores.boxes) == (2, 2)
    assert (scores.nme_pictures, scores.nme_faces, scores.nme_missed) == (3, 2, 1)
    assert scores.nme_failure_rate == pytest.approx(1 / 3), "the one that was not found"
    assert scores.intervals.keys() >= {"ap", "ap50", "nme", "nme_box", "nme_failure_rate"}
    assert scores.worst == [], "every box was found and nothing else"
    assert [Path(row.picture).name for row in scores.nme_worst] == ["1.png", "2.png"]


def test_a_second_category_is_refused(runner: ModelRunner, tmp_path: Path) -> None:
    write_coco(tmp_path / "face_detection", "instances_val.json", ["face", "mask"], [], [])
    with pytest.raises(DataError, match="2 categories"):
        standard_truth(tmp_path, ["faces"])
