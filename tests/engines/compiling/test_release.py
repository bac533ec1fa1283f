import shutil
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch

from engines.compiling import release as releasing
from engines.compiling.card import model_card
from engines.compiling.export import Trained
from engines.compiling.release import release
from engines.errors import DataError, EngineError
from engines.spec import USUAL_TASKS, NetworkSettings, TaskName, load_model
from engines.training.checkpoint import Checkpoint, save_checkpoint
from engines.training.settings import DenseSettings
from tests.engines.compiling.made_network import trained
from tests.engines.evaluation.colours import write_data
from tests.engines.training.made_data import tiny_settings, trainer_on, write_training_data

pytestmark = pytest.mark.usefixtures("single_requests")
FILES = {"frame.onnx", "face.onnx", "weights.pt", "spec.json", "MODEL_CARD.md"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, network: Trained) -> Checkpoint:
    """A run's checkpoint before its first step, but for averaged weights that find something."""
    data = write_training_data(tmp_path_factory.mktemp("training"))
    return replace(trainer_on(data, tiny_settings()).checkpoint(), ema=network.weights, step=5)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint) -> Path:
    file = tmp_path_factory.mktemp("run") / "checkpoint.pt"
    save_checkpoint(checkpoint, file)
    return file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("validation"))


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A model folder from an earlier time."""
    folder = tmp_path / "zoo/n"
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_text(f"the old {name}")
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_checkpoint_becomes_a_model_in_place_of_an_old_one(
    file: Path, checkpoint: Checkpoint, data: Path, released: Path
) -> None:
    told: list[str] = []
    out = released
    (out / "notes.txt").write_text("somebody's")
    done = release(file, data, out, frame_size=(64, 96), name="better", note="Stopped early.", told=told.append)
    assert not any(text.startswith(b"the old") for text in content(out).values())
    assert (out / "notes.txt").read_text() == "somebody's"
    calibrating = "calibrating the scene's probabilities"
    assert told == ["exporting", calibrating, "checking parity", "choosing thresholds", "measuring"]
    assert {each.name for each in out.iterdir()} == FILES | {"notes.txt"}
    assert [each.name for each in out.parent.iterdir()] == ["n"], "nothing is left beside it"
    model = load_model(out)
    assert done.model == model and model.spec.name == "better"
    assert (model.spec.frame.height, model.spec.frame.width) == (64, 96)
    assert [each.backend for each in done.parity] == ["onnxruntime", "openvino"] and all(p.holds for p in done.parity)
    assert [(each.pictures, each.faces) for each in done.parity] == [(3, 64)] * 2
    assert done.report.thresholds == model.spec.thresholds, "the figures are those of the thresholds that were chosen"
    weights = torch.load(model.weights, weights_only=True)["model"]
    scaled = {name for name, value in checkpoint.ema.items() if not torch.equal(weights[name], value)}
    assert scaled == {"scene.linear.weight", "scene.linear.bias"}, "all others are the averaged ones"
    temperature = checkpoint.ema["scene.linear.bias"] / weights["scene.linear.bias"]
    assert torch.allclose(temperature, temperature[0]), "one for all classes"
    assert torch.allclose(weights["scene.linear.weight"] * temperature[0], checkpoint.ema["scene.linear.weight"])
    card = (out / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert model.fingerprint in card and "5 of 6 steps" in card and "Stopped early." in card
    for task in USUAL_TASKS:
        assert getattr(done.report, task), task
    assert "said of every cell" not in card
    dense = msgspec.structs.replace(checkpoint.settings, dense=DenseSettings(detector="teachers/big.onnx"))
    taught = model_card(model, replace(checkpoint, settings=dense), done.report, done.parity)
    assert "The detector `teachers/big.onnx` said of every cell" in taught


@pytest.mark.parametrize(
    ("tasks", "needed", "said", "unsaid"),
    [
        (("scene",), ["classification"], ["| frame | scene |", "scene top-1"], ["neck", "face entry", "objects"]),
        (
            ("identity",),
            ["face_recognition"],
            ["| face | identity |", "verification accuracy on", "embedded by the model | -"],
            ["frame entry", "Scenes:", "landmarks"],
        ),
        (("objects", "scene"), ["detection", "classification"], ["| frame | neck |", "one for each task"], ["LFW"]),
    ],
    ids=["scene", "identity", "objects and scene"],
)
def test_a_model_of_some_tasks_needs_their_data_alone(
    checkpoint: Checkpoint,
    data: Path,
    released: Path,
    tmp_path: Path,
    tasks: tuple[TaskName, ...],
    needed: list[str],
    said: list[str],
    unsaid: list[str],
) -> None:
    settings = save_some(checkpoint, tasks, tmp_path / "checkpoint.pt")
    for folder in needed:
        shutil.copytree(data / folder, tmp_path / "data" / folder)
    done = release(tmp_path / "checkpoint.pt", tmp_path / "data", released, frame_size=(64, 96))
    assert (done.model.spec.name, done.model.spec.network.tasks) == ("tiny", tasks)
    files = {f"{entry}.onnx" for entry in settings.entries} | {"weights.pt", "spec.json", "MODEL_CARD.md"}
    assert {each.name for each in released.iterdir()} == files, "no entry of the model that was there before is left"
    assert {task for task in USUAL_TASKS if getattr(done.report, task)} == set(tasks)
    card = (released / "MODEL_CARD.md").read_text(encoding="utf-8")
    card, data_table, rest = card.partition("| set |")[0], card.partition("| set |")[2], card.partition("## Figures")[2]
    for text in said:
        assert text in card + rest, text
    for text in unsaid:
        assert text not in card + rest, text
    assert data_table


def save_some(checkpoint: Checkpoint, tasks: tuple[TaskName, ...], file: Path) -> NetworkSettings:
    """Write the checkpoint of a network that has some of the tasks alone; what that network is."""
    settings = msgspec.structs.replace(checkpoint.settings.network, tasks=tasks)
    whole = msgspec.structs.replace(checkpoint.settings, network=settings)
    weights = {name: checkpoint.ema[name] for name in trained(settings).weights}
    save_checkpoint(replace(checkpoint, settings=whole, ema=weights), file)
    return settings


def other_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the exporter had made something else of the network."""
    exported = releasing.export

    def wrong(made: Trained, out: Path, *rest: object) -> object:
        spec = exported(made, out, *rest)  # type: ignore[arg-type]
        torch.save({"model": trained(made.settings, seed=1).weights}, out / "weights.pt")
        return spec

    monkeypatch.setattr(releasing, "export", wrong)


def test_a_model_that_differs_from_pytorch_is_not_released(
    checkpoint: Checkpoint, data: Path, released: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_some(checkpoint, ("identity",), tmp_path / "checkpoint.pt")
    before = content(released.parent)
    other_weights(monkeypatch)
    with pytest.raises(EngineError, match="parity with PyTorch is broken"):
        release(tmp_path / "checkpoint.pt", data, released, frame_size=(64, 64))
    assert content(released.parent) == before


@pytest.mark.parametrize(
    ("missing", "task"),
    [
        ("detection/images/val", "objects"),
        ("face_recognition/val", "identity"),
        ("face_detection/annotations/instances_val.json", "faces"),
        ("face_recognition/pairs_val_lfw.txt", "identity"),
    ],
)
def test_without_a_part_of_the_data_nothing_is_released(
    checkpoint: Checkpoint, data: Path, released: Path, tmp_path: Path, missing: str, task: TaskName
) -> None:
    save_some(checkpoint, (task,), tmp_path / "checkpoint.pt")
    partial = shutil.copytree(data, tmp_path / "data")
    lost = partial / missing
    if lost.is_dir():
        shutil.rmtree(lost)
    else:
        lost.unlink()
    before = content(released.parent)
    with pytest.raises(DataError, match=missing):
        release(tmp_path / "checkpoint.pt", partial, released, frame_size=(64, 64))
    assert content(released.parent) == before


def test_a_data_folder_that_is_not_there_makes_no_folder_either(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        release(file, tmp_path / "nowhere", tmp_path / "zoo/n", frame_size=(64, 64))
    assert not (tmp_path / "zoo").exists()


def test_a_damaged_checkpoint_is_refused_first(data: Path, released: Path, tmp_path: Path) -> None:
    (tmp_path / "half.pt").write_bytes(b"half of it")
    told: list[str] = []
    before = content(released.parent)
    with pytest.raises(DataError, match=r"half\.pt: is damaged"):
        release(tmp_path / "half.pt", data, released, frame_size=(64, 64), told=told.append)
    assert told == [] and content(released.parent) == before
