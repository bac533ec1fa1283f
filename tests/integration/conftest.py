"""For tests of runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from engines.spec import Model
from tests.pipeline.made_runs import dark_then_bright, write_model

FRAMES, SIZE, RATE = 60, (160, 120), 25


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The made model, which no test changes."""
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark in its first half and bright in its second: the person goes from left to right."""
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", FRAMES, SIZE, RATE, dark_then_bright(FRAMES, SIZE))
