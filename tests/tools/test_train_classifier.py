import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch
from click.testing import Result
from typer.testing import CliRunner

from tests.engines.study.made_classes import TOML, write_classes
from tools.main import app


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    structlog.reset_defaults()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_classes(tmp_path / "data")
    (tmp_path / "colours.toml").write_text(TOML)
    return tmp_path


def train(files: Path, *more: str) -> Result:
    paths = [str(files / "colours.toml"), "--data", str(files / "data"), "--out", str(files / "run")]
    return CliRunner().invoke(app, ["train", *paths, "--device", "cpu", "--threads", "1", *more])


def test_a_run_leaves_its_network_its_log_and_its_accuracy_on_the_validation_pictures(files: Path) -> None:
    done = train(files)
    assert done.exit_code == 0, done.output
    scores = json.loads((files / "run/scores.json").read_text())
    right = sum(row[place] for place, row in enumerate(scores["confusion"]))
    assert scores["pictures"] == 12 and scores["top1"] == right / 12
    assert f"validation accuracy {right / 12:.3f}, {right} of 12 pictures" in done.stdout.replace("\n", " ")
    with (files / "run/log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["number"] for row in rows] == ["1", "2"]
    assert float(rows[-1]["validation_top1"]) == scores["top1"]
    assert torch.load(files / "run/checkpoint.pt", weights_only=True)["labels"] == ("room", "street")


def test_a_folder_with_a_run_in_it_is_not_written_over(files: Path) -> None:
    train(files)
    refused = train(files)
    assert refused.exit_code == 2
    assert "holds a run already" in refused.stderr


def test_what_belongs_to_joint_training_alone_is_refused(files: Path) -> None:
    refused = train(files, "--resume")
    assert refused.exit_code == 2
    assert "a classifier is trained in one go" in refused.stderr
