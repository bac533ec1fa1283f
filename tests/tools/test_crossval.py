import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import torch
from click.testing import Result
from typer.testing import CliRunner

import tools.evaluate_studies
from engines.study import crossval
from tests.engines.study.made_run import weighed, write_run
from tools.main import app


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(crossval, "evaluate_checkpoint", weighed)  # exporting and scoring takes seconds
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_run(tmp_path_factory.mktemp("made"))


def run(made: tuple[Path, Path], *arguments: object) -> Result:
    common = ["crossval", str(made[0]), "--data", str(made[1]), "--folds", "2", "--stop-at", "2", "--threads", "1"]
    return CliRunner().invoke(app, [*common, *map(str, arguments)])


def test_an_interrupted_one_says_so_and_the_same_command_ends_with_a_page(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as interrupted:
        interrupted.setattr(tools.evaluate_studies, "stop_signal", lambda: lambda: True)
        first = run(made, "--out", tmp_path)
    assert first.exit_code == 1 and "0 of 2 folds are done; the same command goes on" in first.stdout
    done = run(made, "--out", tmp_path, "--vary", "network.activation=relu,silu", "--json")
    assert done.exit_code == 0, done.output
    content = json.loads(done.stdout)
    assert len(content["outcomes"]) == 4 and len(content["differences"]) == 2
    page = (tmp_path / "crossval.md").read_text()
    assert "--folds 2 --seed 0 --vary network.activation=relu,silu --stop-at 2" in page
    assert "| network.activation = relu | scene.top1 |" in page and (tmp_path / "crossval.png").is_file()
    assert len(list((tmp_path / "folds").iterdir())) == 4, "the fold that was begun has gone on"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--vary", "seed=1"), "--vary seed=1: must be KEY=VALUE,VALUE with two values or more"),
        (("--vary", "seed=1,2", "--vary", "seed=3,4"), "--vary must name each key once, got seed, seed"),
        (("--vary", "sead=1,2"), "unknown field `sead`"),
        (("--folds", "99"), "too few for 99 folds"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_sentence(
    made: tuple[Path, Path], tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    result = run(made, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2 and sentence in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_single_fold_is_none(made: tuple[Path, Path]) -> None:
    assert run(made, "--folds", 1).exit_code == 2
