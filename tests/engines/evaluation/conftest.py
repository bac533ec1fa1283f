"""Fixtures around the network that sees colours."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.progress import Progress

from engines.evaluation.runner import ModelRunner
from engines.spec import Model
from tests.engines.evaluation.colours import open_colours, write_data, write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def runner(model: Model) -> Iterator[ModelRunner]:
    with Progress(disable=True) as progress:
        yield ModelRunner(model, open_colours(model, "frame"), open_colours(model, "face"), progress)
