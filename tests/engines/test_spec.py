from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.errors import EngineError, ModelError
from engines.spec import load_model
from tests.engines.made_models import write_model, write_onnx, write_spec


def test_a_model_folder_is_read(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    assert model.file("frame") == tmp_path / "model" / "frame.onnx"
    assert model.file("face") == tmp_path / "model" / "face.onnx"
    assert model.weights == tmp_path / "model" / "weights.pt"
    assert (model.spec.frame.height, model.spec.frame.width) == (32, 48)
    assert model.spec.objects == ("person", "dog")
    assert load_model(str(tmp_path / "model")) == model


def test_the_fingerprint_follows_the_onnx_files(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first")
    assert write_model(tmp_path / "second").fingerprint == first.fingerprint
    write_onnx(tmp_path / "second" / "frame.onnx", 64, 64)
    assert write_spec(tmp_path / "second", (64, 64)).fingerprint != first.fingerprint
    assert len(first.fingerprint) == 16


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read spec\.json: No such file"):
        load_model(tmp_path / "nowhere")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    (tmp_path / "face.onnx").unlink()
    with pytest.raises(ModelError, match=r"face\.onnx is missing"):
        load_model(tmp_path)


def test_a_file_that_changed_is_named(tmp_path: Path) -> None:
    write_model(tmp_path)
    with (tmp_path / "frame.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ModelError, match=r"frame\.onnx does not match spec\.json: sha256 is"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("case", "key", "value", "sentence"),
    [
        ("a format of the future", "format", 2, r"\$\.format"),
        ("a key nobody knows", "colour", "red", "colour"),
        ("labels that are not text", "objects", [1, 2], r"\$\.objects"),
        ("a size of nothing", "frame", {"file": "f", "sha256": "", "height": 0, "width": 1, "outputs": {}}, "height"),
        ("a threshold above one", "thresholds", {"object_score": 1.5}, "object_score"),
        ("settings of another network", "network", {"layers": 3}, "layers"),
    ],
)
def test_a_spec_that_is_not_valid_names_its_key(
    tmp_path: Path, case: str, key: str, value: object, sentence: str
) -> None:
    write_model(tmp_path)
    spec = msgspec.json.decode((tmp_path / "spec.json").read_bytes())
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode({**spec, key: value}))
    with pytest.raises(ModelError, match=rf"spec\.json is not valid: .*{sentence}"):
        load_model(tmp_path)


def test_a_spec_that_was_cut_off(tmp_path: Path) -> None:
    write_model(tmp_path)
    text = (tmp_path / "spec.json").read_bytes()
    (tmp_path / "spec.json").write_bytes(text[: len(text) // 2])
    with pytest.raises(ModelError, match=r"spec\.json is not valid"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("case", "batch", "sentence"),
    [
        ("floats", np.zeros((1, 32, 48, 3), np.float32), "uint8, got float32"),
        ("no pictures", np.zeros((0, 32, 48, 3), np.uint8), r"got \(0, 32, 48, 3\)"),
        ("one picture without the batch dimension", np.zeros((32, 48, 3), np.uint8), r"got \(32, 48, 3\)"),
        ("height and width swapped", np.zeros((1, 48, 32, 3), np.uint8), r"\(N >= 1, 32, 48, 3\)"),
        ("channels first", np.zeros((1, 3, 32, 48), np.uint8), "shape"),
        ("an alpha channel", np.zeros((1, 32, 48, 4), np.uint8), "shape"),
    ],
)
def test_a_batch_that_does_not_fit(tmp_path: Path, case: str, batch: np.ndarray, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        write_model(tmp_path).spec.frame.check(batch)
