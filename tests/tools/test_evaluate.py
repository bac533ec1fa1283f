import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from engines.errors import ConfigError, DataError, ModelError, TrunklineError
from engines.evaluation import report
from engines.spec import load_model
from tests.engines.evaluation.colours import open_colours, write_data, write_model, write_scenes
from tools.evaluate import app


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setattr(report, "open_engine", open_colours)
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "model")
    write_scenes(tmp_path / "data")
    return str(tmp_path / "model"), str(tmp_path / "data")


def run(*arguments: str) -> str:
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


def test_a_further_set_of_the_folder_is_scored_by_itself(folders: tuple[str, str]) -> None:
    data = Path(folders[1])
    for scene in sorted(path for path in data.glob("classification/*/val/*") if path.is_dir())[:2]:
        shutil.copytree(scene, data / "places" / "val" / scene.name)
    found = json.loads(run("--model", folders[0], "--data", folders[1], "--task", "scene", "--json"))
    assert list(found["sets"]) == ["places"]
    assert found["sets"]["places"]["scene"]["top1"] == 1.0
    assert found["sets"]["places"]["scene"]["pictures"] < found["scene"]["pictures"]
    table = run("--model", folders[0], "--data", folders[1], "--task", "scene")
    assert [line.split()[1] for line in table.splitlines() if "top1" in line and "group" not in line][1] == "places"


def test_a_size_that_the_model_does_not_have_is_refused(folders: tuple[str, str]) -> None:
    with pytest.raises(ModelError, match="cannot have the size 320x256: its file is for 160x160 alone"):
        run("--model", folders[0], "--data", folders[1], "--task", "scene", "--frame-size", "320x256")


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


@pytest.fixture
def people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setattr(report, "open_engine", open_colours)
    (tmp_path / "own").mkdir()
    model = write_model(tmp_path / "own")
    return str(model.path), str(write_data(tmp_path / "people"))


def test_a_calibration_is_shown_and_spec_json_stays(people: tuple[str, str]) -> None:
    spec = Path(people[0]) / "spec.json"
    before = spec.read_bytes()
    text = run("--model", people[0], "--data", people[1], "--task", "identity", "--calibrate")
    assert "of strangers' tracks are given a name from a gallery of 10" in text
    assert "--replace writes the new one" in text
    assert spec.read_bytes() == before


def test_a_calibration_is_written_where_it_is_to_replace_the_old_one(people: tuple[str, str]) -> None:
    arguments = ["--model", people[0], "--data", people[1], "--task", "identity", "--calibrate", "--replace", "--json"]
    found = json.loads(run(*arguments, "--people", "3", "--false-accept-rate", "0.2"))
    spec = load_model(people[0]).spec
    assert spec.identity_calibration is not None
    assert (spec.identity_calibration.people, spec.identity_calibration.false_accept_rate) == (3, 0.2)
    assert spec.thresholds.identity_similarity == found["identity_similarity"]
    assert found["written"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--calibrate"], "--calibrate needs --task identity"),
        (["--calibrate", "--task", "faces"], "--calibrate needs --task identity"),
        (["--task", "identity", "--people", "5"], "no meaning without --calibrate"),
        (["--task", "identity", "--replace"], "no meaning without --calibrate"),
    ],
)
def test_options_of_the_calibration_go_with_it(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        run("--model", "m", "--data", "d", *arguments)


def test_too_few_people_for_the_rate_are_refused(people: tuple[str, str]) -> None:
    arguments = ["--model", people[0], "--data", people[1], "--task", "identity", "--calibrate"]
    with pytest.raises(DataError, match=r"too few to show a false-accept rate of 0\.001"):
        run(*arguments, "--false-accept-rate", "0.001")
