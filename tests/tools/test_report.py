import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch
from click.testing import Result
from typer.testing import CliRunner

from tests.engines.made_models import write_partial_model
from tests.engines.study.made_classes import TOML, write_classes
from tools.main import app


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("engines.study.improvement.SEEDS", (0, 1))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    structlog.reset_defaults()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the data, a configuration of one epoch, and a model that knows its classes."""
    write_classes(tmp_path / "data", pictures=2)
    write_partial_model(tmp_path / "model", "scene")
    (tmp_path / "tiny.toml").write_text(TOML.replace("epochs = 2", "epochs = 1"))
    return tmp_path


def improve(files: Path, *more: str, model: str = "model") -> Result:
    options = {"config": "tiny.toml", "data": "data", "model": model, "out": "results", "work": "work"}
    paths = [text for name, file in options.items() for text in (f"--{name}", str(files / file))]
    return CliRunner().invoke(app, ["report", "improvement", *paths, "--threads", "1", *more])


def test_the_study_is_done_once_and_its_pages_are_written(files: Path) -> None:
    first = improve(files)
    assert first.exit_code == 0, first.output
    assert str(files / "results/improvement.md") in first.stdout
    page = files / "results/improvement.md"
    written = page.read_text()
    page.unlink()
    again = improve(files, "--json")
    assert page.read_text() == written
    found = json.loads(again.stdout)
    assert found["seeds"] == [0, 1]
    assert len(found["runs"]) == 2 * len(found["summaries"])
    assert found["joint"]["restricted"]["correct"] == found["joint"]["restricted"]["pictures"] == 4


def test_a_model_that_does_not_fit_is_refused_before_anything_is_trained(files: Path) -> None:
    write_partial_model(files / "faces", "identity")
    refused = improve(files, model="faces")
    assert refused.exit_code == 2
    assert "needs a model that knows scene" in refused.stderr
    assert not (files / "work").exists()


def test_a_wrong_configuration_is_refused(files: Path) -> None:
    (files / "tiny.toml").write_text(TOML.replace("dense = 8", "dense = 0"))
    refused = improve(files)
    assert refused.exit_code == 2
    assert "tiny.toml" in refused.stderr and "dense" in refused.stderr
