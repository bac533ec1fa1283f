import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch
from click.testing import Result
from typer.testing import CliRunner

from engines.study import pace, speed
from tests.engines.study.made_outcomes import write_both
from tools.main import app

CONFIG = """
name = "tiny"
steps = 100
warmup_steps = 50
precision = "f32"
micro_batches = 2
gradient_steps = 50
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
    monkeypatch.setattr(speed, "TURN_S", 0.001)
    monkeypatch.setattr(pace, "ROUNDS", 3)
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
    return CliRunner().invoke(app, ["report", "multi-task", str(files / "tiny.toml"), *folders, *more])


def test_the_comparison_is_done_once_and_its_pages_are_written_again(files: Path) -> None:
    first = compare(files, "--steps", "2", "--seeds", "0", "--threads", "1")
    assert first.exit_code == 0, first.output
    page = files / "out/multi-task.md"
    assert str(page) in first.stdout
    written = page.read_text()
    page.unlink()
    (files / "data").rename(files / "gone")
    again = compare(files, "--steps", "2", "--seeds", "0", "--only-pages", "--json")
    assert again.exit_code == 0, again.output
    assert page.read_text() == written
    found = json.loads(again.stdout)
    assert [run["name"] for run in found["runs"]] == ["joint", "objects", "scene"]
    assert found["tasks"] == ["objects", "scene"]


def test_pages_of_runs_that_are_not_finished_are_refused(files: Path) -> None:
    for more, missing in ((("--steps", "2"), "9 of 9 runs are not finished"), ((), "has no runs of --hours 5")):
        refused = compare(files, "--only-pages", *more)
        assert refused.exit_code == 2
        assert missing in refused.stderr


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--seeds", "0,one"), "--seeds must be whole numbers with commas, as in 0,1,2, got '0,one'"),
        (("--seeds", "1,1"), "--seeds must differ from each other, got '1,1'"),
        (("--steps", "2", "--hours", "1"), "--steps is 2 and --hours 1: give one of them"),
    ],
    ids=["not a number", "twice the same", "both budgets"],
)
def test_wrong_options_are_refused(files: Path, more: tuple[str, ...], said: str) -> None:
    refused = compare(files, *more)
    assert refused.exit_code == 2
    assert said in " ".join(refused.stderr.split())
    assert not (files / "work").exists()
