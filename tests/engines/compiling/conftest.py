"""Fixtures around an exported tiny network."""

from pathlib import Path

import pytest

from engines.compiling.export import Trained, export
from engines.spec import Model, Thresholds, load_model
from tests.engines.compiling.made_network import FRAME_SIZE, trained
from tests.engines.evaluation.colours import paint, write_data


@pytest.fixture(scope="session")
def network() -> Trained:
    return trained()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, network: Trained) -> Model:
    folder = tmp_path_factory.mktemp("export") / "model"
    export(network, folder, FRAME_SIZE, Thresholds(object_score=0.4))
    return load_model(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every task, with training pictures to calibrate with."""
    folder = write_data(tmp_path_factory.mktemp("data"))
    for number in range(8):
        boxes = [((4 + number, 10, 30, 30), (250, 30 * number, 20))]
        paint(folder / f"detection/images/train/{number}.png", (96, 64), boxes)
        paint(folder / f"face_recognition/train/Ada/{number}.png", (112, 112), boxes)
    return folder
