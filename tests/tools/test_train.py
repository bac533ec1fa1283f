import csv
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import structlog
import torch
from click.testing import Result
from typer.testing import CliRunner

import tools.train
from engines.training.datasets import load_sets
from engines.training.settings import load_settings
from engines.training.trainer import Trainer
from tests.engines.training.made_data import write_training_data
from tests.sessions import ended_with_all_it_started
from tools.main import app

CONFIG = """
name = "tiny"
steps = 4
warmup_steps = 2
precision = "f32"
network = { channels = [8, 8, 8, 8, 8], neck = 8, towers = 1, embedding = 16 }

[[datasets]]
name = "scenes"
scene = { format = "folders", folders = ["classification/imagenette10/train", "classification/cats_dogs/train"] }
batch = 2
size = 32

[[datasets]]
name = "people"
identity = { format = "folders", folders = ["face_recognition/train"] }
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


@contextmanager
def _kept() -> Iterator[None]:
    """Log every second step, and leave torch and structlog as they were."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tools.train, "LOG_EVERY", 2)
        yield
    torch.set_num_threads(threads)
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    with _kept():
        yield


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["train", *map(str, arguments), "--threads", "1"])


@pytest.fixture(scope="module")
def _made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "tiny.toml").write_text(CONFIG)
    with _kept():
        assert run(folder / "tiny.toml", "--data", data, "--out", folder / "run", "--stop-at", 2).exit_code == 0
    return folder / "run"


@pytest.fixture
def stopped(_made: Path, tmp_path: Path) -> Path:
    """A run that was stopped after two steps of four, for one test alone."""
    return Path(shutil.copytree(_made, tmp_path / "run"))


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
    assert re.fullmatch(rf"step 4, 0\.\d\d h: {out / 'checkpoint.pt'}", result.stdout.splitlines()[-1])
    assert torch.load(out / "checkpoint.pt", weights_only=True)["step"] == 4
    assert {(2, "scene.total"), (2, "identity.total"), (4, "scene.total"), (4, "identity.top1")} <= set(logged(out))


def test_a_stopped_run_goes_on_and_its_log_too(config: Path, data: Path, stopped: Path) -> None:
    before = (stopped / "log.csv").read_text()
    assert run(config, "--data", data, "--out", stopped, "--resume").exit_code == 0
    assert (stopped / "log.csv").read_text().startswith(before)
    assert {step for step, _ in logged(stopped)} == {2, 4}


def test_the_runs_folder_is_named_after_the_configuration(
    config: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(config, "--data", data, "--stop-at", 1, "--device", "cpu").exit_code == 0
    assert (tmp_path / "runs/tiny/checkpoint.pt").is_file()


def test_a_run_is_never_written_over_by_mistake(config: Path, data: Path, stopped: Path) -> None:
    before = {file.name: file.read_bytes() for file in stopped.iterdir()}
    assert "holds a run already; add --resume" in refused(config, "--data", data, "--out", stopped)
    assert {file.name: file.read_bytes() for file in stopped.iterdir()} == before


def test_missing_data_is_refused_and_can_be_put_right(config: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert "nowhere: no such folder" in refused(config, "--data", tmp_path / "nowhere", "--out", out)
    assert run(config, "--data", data, "--out", out, "--stop-at", 1).exit_code == 0


def test_data_without_one_of_the_sets_is_refused(config: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sentence = refused(config, "--data", tmp_path / "empty", "--out", tmp_path / "run")
    assert "classification/imagenette10/train: no such folder" in sentence


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


def test_a_damaged_checkpoint_is_refused_and_kept(config: Path, data: Path, stopped: Path) -> None:
    half = (stopped / "checkpoint.pt").read_bytes()[:1000]
    (stopped / "checkpoint.pt").write_bytes(half)
    assert "checkpoint.pt: is damaged" in refused(config, "--data", data, "--out", stopped, "--resume")
    assert (stopped / "checkpoint.pt").read_bytes() == half


def test_a_checkpoint_of_another_network_is_refused(config: Path, data: Path, stopped: Path) -> None:
    config.write_text(CONFIG.replace("neck = 8", "neck = 16"))
    assert "--resume: the checkpoint was made with another network" in refused(
        config, "--data", data, "--out", stopped, "--resume"
    )


def test_no_steps_at_all_are_refused(config: Path, data: Path) -> None:
    result = run(config, "--data", data, "--stop-at", 0)
    assert result.exit_code == 2 and "--stop-at" in result.output


def test_an_install_without_torch_says_what_is_missing(
    config: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "train needs PyTorch, which is not installed: pip install 'trunkline[train]'" in refused(
        config, "--data", data
    )


def test_the_configuration_here_is_one_that_is_allowed(config: Path) -> None:
    """So that the refusals above are of what they changed in it."""
    assert msgspec.to_builtins(load_settings(config))["steps"] == 4


def begun(data: Path, config: Path) -> torch.Tensor:
    """The stem's weights before the first step."""
    settings = load_settings(config)
    loaded = load_sets(settings.datasets, data)
    weights = Trainer(settings, loaded.sets, (loaded.objects, loaded.scenes), torch.device("cpu")).network.state_dict()
    return weights["trunk.stem.conv.weight"]


@pytest.mark.integration
def test_two_processes_train_the_weights_of_one(config: Path, data: Path, tmp_path: Path) -> None:
    """Micro-batches are dealt out and gradients summed: weights and statistics agree within float tolerance.

    The last step is compared more loosely than the first: Adam divides by the gradient's size, so that rounding of a
    gradient near zero becomes a share of the learning rate, and batches of two pictures carry it on.
    """
    config.write_text(CONFIG.replace("steps = 4", "steps = 4\ncheckpoint_steps = 1", 1))
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run(config, "--data", data, "--out", alone, "--stop-at", 2).exit_code == 0
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    train = ["-m", "tools.main", "train", config, "--data", data, "--out", together, "--stop-at", 2]
    done = ended_with_all_it_started([*map(str, launch + train)], timeout_s=100)
    assert done.returncode == 0, done.stderr
    before = begun(data, config)
    for file, step, close in (("checkpoint-previous.pt", 1, 2e-6), ("checkpoint.pt", 2, 1e-3)):
        one, two = (torch.load(out / file, weights_only=True) for out in (alone, together))
        assert one["step"] == two["step"] == step
        for part in ("network", "ema", "criteria"):
            for name, wanted in one[part].items():
                torch.testing.assert_close(two[part][name], wanted, rtol=1e-5, atol=close, msg=f"{part}: {name}")
        moved = (one["network"]["trunk.stem.conv.weight"] - before).abs().max()
        assert float(moved) > 2 * close, "a process that went its own way would differ by more"
        assert two["means"] == pytest.approx(one["means"], rel=1e-2 if step > 1 else 1e-4)
