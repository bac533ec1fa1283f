from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.evaluation import report
from engines.spec import Model
from tests.engines.evaluation.colours import GREY, PEOPLE, face_colour, open_colours, paint, write_data

FILES = {
    "objects_pr.png",
    "objects_worst.png",
    "faces_pr.png",
    "faces_worst.png",
    "landmarks_nme.png",
    "landmarks_worst.png",
    "scene_reliability.png",
    "scene_confusion.png",
    "scene_worst.png",
    "identity_roc.png",
    "identity_worst.png",
}


@pytest.fixture(autouse=True)
def colour_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "open_engine", open_colours)


def test_every_task_is_drawn_with_its_mistakes(model: Model, tmp_path: Path) -> None:
    data = write_data(tmp_path / "data")
    paint(data / "classification/cats_dogs/val/cat/0.png", (32, 32), [], ground=GREY["dog"])
    paint(data / "detection/images/val/1.png", (120, 80), [])  # nothing to be found
    wrong = face_colour(PEOPLE[1])
    paint(data / "face_recognition/val" / PEOPLE[0] / "lfw_2.png", (32, 32), [((0, 0, 32, 32), wrong)])
    plots = tmp_path / "plots"
    plots.mkdir()
    found = report.evaluate_model(model, data, plots=plots)
    assert {file.name for file in plots.iterdir()} == FILES, "and no half-written one"
    for file in plots.iterdir():
        picture = cv2.imread(str(file))
        assert picture is not None and min(picture.shape[:2]) > 200, file.name
        assert len(np.unique(picture)) > 2, f"{file.name} is not empty"
    assert found.objects and found.scene and found.identity
    (worst,) = found.objects.worst
    assert (Path(worst.picture).name, worst.f1, worst.missed, worst.mistaken) == ("1.png", 0.0, 2, 0)
    (mistake,) = found.scene.worst
    assert (mistake.label, mistake.predicted, mistake.probability) == ("cat", "dog", pytest.approx(0.9))
    genuine = next(pair for pair in found.identity.worst if pair.genuine)
    assert PEOPLE[0] in genuine.second and "lfw_2" in genuine.second


def test_a_model_without_mistakes_has_sheets_that_say_so(model: Model, data: Path, tmp_path: Path) -> None:
    found = report.evaluate_model(model, data, tasks=["scene"], plots=tmp_path)
    assert found.scene and found.scene.worst == []
    assert (tmp_path / "scene_worst.png").is_file()
