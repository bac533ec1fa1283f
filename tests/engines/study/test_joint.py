from pathlib import Path

import numpy as np
import pytest

from engines.data.sources import Folders
from engines.errors import DataError, ModelError
from engines.study.joint import measure_joint
from tests.engines.made_models import write_partial_model
from tests.engines.study.made_classes import write_plain

# The made model's probabilities are the mean red, green and blue, for "street", "room" and "field".
PICTURES = {
    "street/right.png": (220, 60, 60),
    "street/right_among_two.png": (150, 60, 220),  # looks like a field, which is none of the two classes
    "room/right.png": (60, 220, 60),
    "room/wrong.png": (220, 60, 60),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, colour in PICTURES.items():
        write_plain(tmp_path / "data/val" / name, (48, 32), colour, np.random.default_rng(0))
    return tmp_path / "data"


def test_a_model_is_measured_as_it_is_and_among_the_classes_alone(data: Path, tmp_path: Path) -> None:
    found = measure_joint(write_partial_model(tmp_path / "model", "scene"), Folders(folders=("val",)), data)
    assert (found.as_it_is.labels, found.as_it_is.correct, found.as_it_is.pictures) == (3, 2, 4)
    assert (found.restricted.labels, found.restricted.correct, found.restricted.pictures) == (2, 3, 4)
    assert (found.as_it_is.top1, found.restricted.top1) == (0.5, 0.75)
    assert (found.model, found.size, found.tasks) == ("made", (48, 32), ("scene",))


def test_what_the_scenes_need_is_the_whole_of_a_network_with_scenes_alone(data: Path, tmp_path: Path) -> None:
    found = measure_joint(write_partial_model(tmp_path / "model", "scene"), Folders(folders=("val",)), data)
    assert found.macs == found.whole_macs > 0
    assert found.parameters == found.whole_parameters > 0


def test_classes_that_the_model_does_not_know_are_refused(data: Path, tmp_path: Path) -> None:
    model = write_partial_model(tmp_path / "model", "scene")
    with pytest.raises(DataError, match="a scene that the model does not know: hall"):
        measure_joint(model, Folders(folders=("val",), rename={"room": "hall"}), data)


def test_a_model_without_scenes_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="the improvement study needs a model that knows scene"):
        measure_joint(write_partial_model(tmp_path / "model", "identity"), Folders(folders=("val",)), data)
