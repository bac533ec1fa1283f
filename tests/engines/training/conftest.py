"""Fixtures for training in a test."""

from pathlib import Path

import pytest

from tests.engines.training.made_data import write_training_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training"))
