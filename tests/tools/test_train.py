import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import structlog
import torch
from click.testing import Result
from typer.testing import CliRunner

import tools.train
from tests.engines.training.made_data import write_training_data
from tools.main import app

CONFIG = """
name = "tiny"
steps = 4
warmup_steps = 2
precision = "f32"
network = { channels = [8, 8, 8, 8, 8], neck = 8, towers = 1, embedding = 16 }

[[datasets]]
kind = "scenes"
batch = 2
size = 32

[[datasets]]
kind = "identities"
batch = 2
size = 112
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_training_data(tmp_path_factory.mktemp("training"))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture(autouse=True)
def _put_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(tools.train, "LOG_EVERY", 2)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    structlog.reset_defaults()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments), "--threads", "1"])


def refused(*arguments: object) -> str:
    """What a run that is refused says: one sentence on stderr, and status 2."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    (sentence,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert sentence.startswith("error: ")
    return sentence


def logged(run_folder: Path) -> list[tuple[int, str]]:
    rows = list(csv.DictReader((run_folder / "log.csv").open()))
    assert all(float(row["value"]) == float(row["value"]) and float(row["learning_rate"]) > 0 for row in rows)
    return [(int(row["step"]), row["name"]) for row in rows]


def test_a_run_leaves_a_checkpoint_and_a_log(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = run(config, "--data", data, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"step 4: {out / 'checkpoint.pt'}"
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 4
    assert {(2, "scene.total"), (2, "identity.total"), (4, "scene.total"), (4, "identity.top1")} <= set(logged(out))


def test_a_stopped_run_goes_on_and_its_log_too(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(config, "--data", data, "--out", out, "--stop-at", 2).exit_code == 0
    before = (out / "log.csv").read_text()
    assert run(config, "--data", data, "--out", out, "--resume").exit_code == 0
    assert (out / "log.csv").read_text().startswith(before)
    assert {step for step, _ in logged(out)} == {2, 4}


def test_the_runs_folder_is_named_after_the_configuration(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(config, "--data", data, "--stop-at", 1, "--device", "cpu").exit_code == 0
    assert (tmp_path / "runs/tiny/checkpoint.pt").is_file()


def test_a_run_is_never_written_over_by_mistake(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(config, "--data", data, "--out", out, "--stop-at", 2).exit_code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert "holds a run already; add --resume" in refused(config, "--data", data, "--out", out)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


def test_missing_data_is_refused_and_can_be_put_right(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "nowhere: no such folder" in refused(config, "--data", tmp_path / "nowhere", "--out", out)
    assert run(config, "--data", data, "--out", out, "--stop-at", 1).exit_code == 0


def test_data_without_one_of_the_sets_is_refused(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sentence = refused(config, "--data", tmp_path / "empty", "--out", tmp_path / "run")
    assert "training set scenes: there are no pictures" in sentence


def test_a_missing_configuration_is_refused(data: Path, tmp_path: Path) -> None:
    assert "nothing.toml: cannot be read" in refused(tmp_path / "nothing.toml", "--data", data)


def test_a_wrong_key_is_refused_before_anything_is_written(config: Path, data: Path, tmp_path: Path) -> None:
    config.write_text(CONFIG.replace("batch", "bach", 1))
    sentence = refused(config, "--data", data, "--out", tmp_path / "run")
    assert "tiny.toml" in sentence and "`bach`" in sentence and "$.datasets[0]" in sentence
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_refused(config: Path, data: Path, tmp_path: Path, device: str) -> None:
    sentence = refused(config, "--data", data, "--out", tmp_path / "run", "--device", device)
    assert f"--device is '{device}', which cannot be used here" in sentence
    assert not (tmp_path / "run").exists()


def test_a_damaged_checkpoint_is_refused_and_kept(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(config, "--data", data, "--out", out, "--stop-at", 1).exit_code == 0
    half = (out / "checkpoint.pt").read_bytes()[:1000]
    (out / "checkpoint.pt").write_bytes(half)
    assert "checkpoint.pt: is damaged" in refused(config, "--data", data, "--out", out, "--resume")
    assert (out / "checkpoint.pt").read_bytes() == half


def test_a_checkpoint_of_another_network_is_refused(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run(config, "--data", data, "--out", out, "--stop-at", 1).exit_code == 0
    config.write_text(CONFIG.replace("neck = 8", "neck = 16"))
    assert "--resume: the checkpoint was made with another network" in refused(
        config, "--data", data, "--out", out, "--resume"
    )


def test_no_steps_at_all_are_refused(config: Path, data: Path) -> None:
    result = run(config, "--data", data, "--stop-at", 0)
    assert result.exit_code == 2 and "--stop-at" in result.output


def test_an_install_without_torch_says_what_is_missing(
    config: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "train needs PyTorch, which is not installed: pip install -e .[train]" in refused(config, "--data", data)


def test_the_configuration_here_is_one_that_is_allowed(config: Path) -> None:
    """So that the refusals above are of what they changed in it."""
    from engines.training.settings import load_settings

    assert msgspec.to_builtins(load_settings(config))["steps"] == 4
