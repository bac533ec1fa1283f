import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch
from click.testing import Result
from typer.testing import CliRunner

from engines.spec import TaskName
from engines.study.comparison import NetworkOutcome, TaskComparison
from engines.study.runs import StudyRun
from tests.engines.made_models import write_partial_model
from tests.engines.study.made_classes import TOML, write_classes
from tests.engines.study.made_outcomes import outcome, write_both
from tools.main import app

CONFIG = """
name = "tiny"
steps = 100
warmup_steps = 50
precision = "f32"
micro_batches = 2
network = { channels = [8, 8, 8, 8, 8], neck = 8, towers = 1, embedding = 16 }

[[datasets]]
name = "detection"
images = "detection/images/train"
objects = { format = "coco", file = "detection/annotations/instances_train.json" }
batch = 2
size = 32

[[datasets]]
name = "scenes"
scene = { format = "folders", folders = ["classification/imagenette10/train", "classification/cats_dogs/train"], rename = { dog_english_springer = "dog" } }
batch = 2
size = 32
"""  # noqa: E501  # TOML's inline tables are one line


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def measured(_: TaskComparison, run: StudyRun, tasks: tuple[TaskName, ...], __: object) -> NetworkOutcome:
        return outcome(run.name, run.number, 0.5, ("objects", "scene"))

    monkeypatch.setattr(TaskComparison, "_measured", measured)  # exporting and scoring takes seconds
    monkeypatch.setattr("engines.study.improvement.SEEDS", (0, 1))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    structlog.reset_defaults()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_both(tmp_path / "data")
    (tmp_path / "tiny.toml").write_text(CONFIG)
    return tmp_path


def compare(files: Path, *more: str) -> Result:
    folders = [text for name in ("data", "out", "work") for text in (f"--{name}", str(files / name))]
    return CliRunner().invoke(app, ["evaluate", "multi-task", str(files / "tiny.toml"), *folders, *more])


def test_the_comparison_is_done_once_and_its_page_is_written_again(files: Path) -> None:
    first = compare(files, "--steps", "2", "--seeds", "0", "--threads", "1")
    assert first.exit_code == 0, first.output
    page = files / "out/multi-task.md"
    assert str(page) in first.stdout
    written = page.read_text()
    page.unlink()
    again = compare(files, "--steps", "2", "--seeds", "0", "--json")
    assert again.exit_code == 0, again.output
    assert page.read_text() == written
    found = json.loads(again.stdout)
    assert [run["name"] for run in found["runs"]] == ["joint", "objects", "scene"]
    assert found["tasks"] == ["objects", "scene"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--seeds", "0,one"), "--seeds must be whole numbers with commas, as in 0,1,2, got '0,one'"),
        (("--seeds", "1,1"), "--seeds must differ from each other, got '1,1'"),
        (("--steps", "0"), "Invalid value for '--steps'"),
    ],
    ids=["not a number", "twice the same", "no step"],
)
def test_wrong_options_are_refused(files: Path, more: tuple[str, ...], said: str) -> None:
    refused = compare(files, *more)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())
    assert not (files / "work").exists()


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """A folder with the data, a configuration of one epoch, and a model that knows its classes."""
    write_classes(tmp_path / "data", pictures=2)
    write_partial_model(tmp_path / "model", "scene")
    (tmp_path / "tiny.toml").write_text(TOML.replace("epochs = 2", "epochs = 1"))
    return tmp_path


def improve(files: Path, *more: str, model: str = "model") -> Result:
    options = {"data": "data", "model": model, "out": "results", "work": "work"}
    paths = [text for name, file in options.items() for text in (f"--{name}", str(files / file))]
    return CliRunner().invoke(
        app, ["evaluate", "improvement", str(files / "tiny.toml"), *paths, "--threads", "1", *more]
    )


def test_the_study_is_done_once_and_its_page_is_written(classes: Path) -> None:
    first = improve(classes)
    assert first.exit_code == 0, first.output
    assert str(classes / "results/improvement.md") in first.stdout
    page = classes / "results/improvement.md"
    written = page.read_text()
    page.unlink()
    again = improve(classes, "--json")
    assert page.read_text() == written
    found = json.loads(again.stdout)
    assert found["seeds"] == [0, 1]
    assert len(found["runs"]) == 2 * len(found["steps"])
    assert found["joint"]["restricted"]["correct"] == found["joint"]["restricted"]["pictures"] == 4


def test_a_model_that_does_not_fit_is_refused_before_anything_is_trained(classes: Path) -> None:
    write_partial_model(classes / "faces", "identity")
    refused = improve(classes, model="faces")
    assert refused.exit_code == 2
    assert "needs a model that knows scene" in refused.stderr
    assert not (classes / "work").exists()


def test_a_wrong_configuration_is_refused(classes: Path) -> None:
    (classes / "tiny.toml").write_text(TOML.replace("dense = 8", "dense = 0"))
    refused = improve(classes)
    assert refused.exit_code == 2
    assert "tiny.toml" in refused.stderr and "dense" in refused.stderr
