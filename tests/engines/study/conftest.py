"""For studies that train: data of all tasks, made once."""

from pathlib import Path

import pytest

from tests.engines.study.made_outcomes import write_both


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Training and validation data that no test changes."""
    return write_both(tmp_path_factory.mktemp("data"))
