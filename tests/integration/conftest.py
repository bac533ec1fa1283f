"""For tests of runs."""

import pytest

from engines.spec import Model
from tests.pipeline.made_runs import write_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The made model, which no test changes."""
    return write_model(tmp_path_factory.mktemp("model"))
