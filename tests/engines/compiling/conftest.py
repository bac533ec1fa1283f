"""Fixtures around an exported tiny network."""

from pathlib import Path

import pytest

from engines.spec import Model
from tests.engines.evaluation.colours import paint, write_data


@pytest.fixture(scope="session")
def model(exported: Model) -> Model:
    return exported


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every task, with training pictures to calibrate with."""
    folder = write_data(tmp_path_factory.mktemp("data"))
    for number in range(8):
        boxes = [((4 + number, 10, 30, 30), (250, 30 * number, 20))]
        paint(folder / f"detection/images/train/{number}.png", (96, 64), boxes)
        paint(folder / f"face_recognition/train/Ada/{number}.png", (112, 112), boxes)
    return folder
