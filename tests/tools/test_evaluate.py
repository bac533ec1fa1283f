import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from engines.errors import ConfigError, TrunklineError
from engines.evaluation import report
from tests.engines.evaluation.colours import open_colours, write_model, write_scenes
from tools.evaluate import evaluate


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setattr(report, "open_engine", open_colours)
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "model")
    write_scenes(tmp_path / "data")
    return str(tmp_path / "model"), str(tmp_path / "data")


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(evaluate)
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, TrunklineError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_json_goes_to_stdout_alone_and_to_the_file(folders: tuple[str, str], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    text = run("--model", folders[0], "--data", folders[1], "--task", "scene", "--json", "--out", str(out))
    assert json.loads(text)["scene"]["top1"] == 1.0
    assert json.loads(out.read_text()) == json.loads(text)


def test_the_table_shows_the_figures_and_what_ran(folders: tuple[str, str]) -> None:
    text = run("--model", folders[0], "--data", folders[1], "--task", "scene", "--limit", "4")
    assert "top1" in text and "1.0000" in text
    assert "1.0000 to 1.0000" in text
    assert "colours f32" in text and "at most 4 of each set" in text
    assert "accuracy" not in text


def test_plots_are_drawn_where_they_are_wanted(folders: tuple[str, str], tmp_path: Path) -> None:
    plots = tmp_path / "plots"
    run("--model", folders[0], "--data", folders[1], "--task", "scene", "--plots", str(plots))
    drawn = {file.name for file in plots.iterdir()}
    assert drawn == {"scene_confusion.png", "scene_reliability.png", "scene_worst.png"}


def test_plots_in_the_place_of_a_file_are_refused_before_the_work(folders: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("notes")
    with pytest.raises(ConfigError, match=r"--plots .*taken: cannot be made a folder"):
        run("--model", folders[0], "--data", "not-looked-at", "--plots", str(tmp_path / "taken"))


def test_an_unknown_task_is_refused(folders: tuple[str, str]) -> None:
    app = typer.Typer()
    app.command()(evaluate)
    result = CliRunner().invoke(app, ["--model", folders[0], "--data", folders[1], "--task", "poses"])
    assert result.exit_code == 2
    assert "poses" in result.output


def test_a_file_that_cannot_be_written_is_refused_before_the_work(folders: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the folder .*nowhere does not exist"):
        run("--model", folders[0], "--data", "not-looked-at", "--out", str(tmp_path / "nowhere" / "x.json"))


def test_a_run_time_install_says_what_is_missing(folders: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.evaluate.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="faster-coco-eval is not installed"):
        run("--model", folders[0], "--data", folders[1])
