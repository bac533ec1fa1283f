"""Fixtures around an exported tiny network."""

import pytest

from engines.compiling.export import Trained, export
from engines.spec import Model, Thresholds, load_model
from tests.engines.compiling.made_network import FRAME_SIZE, trained


@pytest.fixture(scope="session")
def network() -> Trained:
    return trained()


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory, network: Trained) -> Model:
    folder = tmp_path_factory.mktemp("export") / "model"
    export(network, folder, FRAME_SIZE, Thresholds(object_score=0.4))
    return load_model(folder)
