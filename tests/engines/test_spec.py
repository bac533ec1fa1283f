import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.errors import EngineError, ModelError
from engines.spec import (
    USUAL_TASKS,
    ComparedSet,
    EntrySpec,
    GateFigure,
    IdentityCalibration,
    Model,
    ModelSpec,
    NetworkSettings,
    Quantised,
    QuantisedFile,
    ScoreCurves,
    TaskName,
    load_model,
    output_names,
    sha256_of,
)
from engines.spec import write_spec as write_model_spec
from tests.engines.made_models import write_model, write_onnx, write_spec


def test_a_model_folder_is_read(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    assert model.file("frame") == tmp_path / "model" / "frame.onnx"
    assert model.file("face") == tmp_path / "model" / "face.onnx"
    assert (model.spec.frame.height, model.spec.frame.width) == (32, 48)
    assert model.spec.objects == ("person", "dog")
    assert load_model(str(tmp_path / "model")) == model


def test_weights_that_are_not_there_are_told(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    with pytest.raises(ModelError, match=r"model .*: weights\.pt is missing, which PyTorch and training need"):
        _ = model.weights
    (tmp_path / "model" / "weights.pt").write_bytes(b"")
    assert model.weights == tmp_path / "model" / "weights.pt"


def test_the_fingerprint_follows_the_onnx_files(tmp_path: Path) -> None:
    first = write_model(tmp_path / "first")
    assert write_model(tmp_path / "second").fingerprint == first.fingerprint
    write_onnx(tmp_path / "second" / "frame.onnx", 64, 64)
    assert write_spec(tmp_path / "second", (64, 64)).fingerprint != first.fingerprint
    assert len(first.fingerprint) == 16


def with_int8(model: Model) -> Model:
    """The same folder, with int8 files that pass for ones."""
    files = {}
    for entry in model.spec.network.entries:
        file = model.file(entry).with_suffix(".int8.onnx")
        file.write_bytes(f"{entry} in int8".encode())
        files[entry] = QuantisedFile(file.name, sha256_of(file), 3, ("/stem",), {"detection/images/train": 4})
    figures = (GateFigure("scene", "top1", "openvino", 0.5, 0.498, 0.004),)
    spec = msgspec.structs.replace(model.spec, int8=Quantised(files, 0.01, figures))
    (model.path / "spec.json").write_bytes(msgspec.json.encode(spec))
    return load_model(model.path)


def test_int8_files_belong_to_the_model_and_its_fingerprint_stays(tmp_path: Path) -> None:
    plain = write_model(tmp_path)
    model = with_int8(plain)
    assert model.file("face", "int8") == tmp_path / "face.int8.onnx"
    assert model.file("face", "f32") == model.file("face") == tmp_path / "face.onnx"
    assert model.fingerprint == plain.fingerprint
    assert model.spec.int8 is not None and model.spec.int8.figures[0].loss == 0.004


def test_an_int8_file_that_is_missing_or_changed_is_named(tmp_path: Path) -> None:
    file = with_int8(write_model(tmp_path)).file("frame", "int8")
    file.write_bytes(b"another")
    with pytest.raises(ModelError, match=r"frame\.int8\.onnx does not match spec\.json: sha256 is"):
        load_model(tmp_path)
    file.unlink()
    with pytest.raises(ModelError, match=r"frame\.int8\.onnx is missing"):
        load_model(tmp_path)


def test_a_model_that_was_not_compiled_to_int8_says_what_does_it(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    with pytest.raises(ModelError, match=rf"no int8 file of the face entry.* trunkline compile {tmp_path} --precision"):
        model.file("face", "int8")


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
        ("a format that never was", "format", 0, r"\$\.format"),
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


def write_tasks(folder: Path, tasks: tuple[TaskName, ...], **changes: object) -> Path:
    """A model folder whose spec fits its tasks but for the changes; nobody opens its files."""
    entries = {}
    for name in ("frame", "face"):
        (folder / f"{name}.onnx").write_bytes(name.encode())
        outputs: dict[str, tuple[int, ...]] = dict.fromkeys(output_names(name, tasks), ())
        digest = sha256_of(folder / f"{name}.onnx")
        entries[name] = EntrySpec(f"{name}.onnx", digest, 32, 32, outputs) if outputs else None
    spec = ModelSpec(1, "some", entries["frame"], entries["face"], (), (), NetworkSettings(tasks=tasks))
    (folder / "spec.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(spec, **changes)))
    return folder


def test_a_spec_of_an_earlier_time_says_nothing_of_tasks_and_has_all(tmp_path: Path) -> None:
    write_tasks(tmp_path, USUAL_TASKS)
    spec = msgspec.json.decode((tmp_path / "spec.json").read_bytes())
    del spec["network"]["tasks"]
    (tmp_path / "spec.json").write_bytes(msgspec.json.encode(spec))
    assert load_model(tmp_path).spec.network.tasks == USUAL_TASKS


@pytest.mark.parametrize(
    ("tasks", "there", "missing"),
    [(("objects", "scene"), "frame", "face"), (("identity",), "face", "frame")],
    ids=["without identity", "identity alone"],
)
def test_a_model_may_have_one_entry(tmp_path: Path, tasks: tuple[TaskName, ...], there: str, missing: str) -> None:
    model = load_model(write_tasks(tmp_path, tasks))
    assert model.spec.network.entries == (there,)
    assert model.spec.entry(there).file == f"{there}.onnx"  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=f"model 'some' has no {missing} entry: it knows {', '.join(tasks)} alone"):
        model.spec.entry(missing)  # type: ignore[arg-type]
    assert len(model.fingerprint) == 16


@pytest.mark.parametrize(
    ("case", "tasks", "changes", "sentence"),
    [
        (
            "no entry for a task",
            ("objects", "identity"),
            {"face": None},
            "spec.json says it knows identity, but has no face entry",
        ),
        (
            "an entry without a task",
            ("objects", "identity"),
            {"network": NetworkSettings(tasks=("objects",))},
            "spec.json has a face entry, but none of its tasks",
        ),
        (
            "outputs of a task that are not there",
            ("objects", "scene"),
            {"network": NetworkSettings(tasks=("objects", "faces"))},
            "spec.json says it knows objects, faces, but its frame entry gives no face_boxes, face_scores, "
            "face_landmarks",
        ),
    ],
)
def test_tasks_that_are_not_those_of_the_entries(
    tmp_path: Path, case: str, tasks: tuple[TaskName, ...], changes: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ModelError, match=sentence):
        load_model(write_tasks(tmp_path, tasks, **changes))


def test_whoever_needs_a_task_says_so_in_one_sentence(tmp_path: Path) -> None:
    model = load_model(write_tasks(tmp_path, ("objects", "faces")))
    model.require(("faces",), "somebody")
    sentence = f"enroll needs a model that knows faces, identity; model {tmp_path} knows objects, faces$"
    with pytest.raises(ModelError, match=sentence):
        model.require(("faces", "identity"), "enroll")


def test_a_folder_that_does_not_say_what_its_identity_threshold_stands_for_is_read(tmp_path: Path) -> None:
    model = write_model(tmp_path)
    text = json.loads((tmp_path / "spec.json").read_bytes())
    text.pop("identity_calibration", None)
    (tmp_path / "spec.json").write_text(json.dumps(text))
    assert load_model(tmp_path).spec.identity_calibration is None
    assert load_model(tmp_path).fingerprint == model.fingerprint


def test_a_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    compared = ComparedSet("staff", 20, 200, 3800, 0.61)
    known = IdentityCalibration(0.02, 10, 8, 3, (compared,))
    spec = msgspec.structs.replace(write_model(tmp_path).spec, identity_calibration=known)
    write_model_spec(spec, tmp_path)
    assert load_model(tmp_path).spec == spec


def test_thresholds_of_other_labels_are_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "made").path
    spec = load_model(folder).spec
    for changed, what in (
        ({"object_scores": (0.5,) * (len(spec.objects) + 1)}, "object_scores"),
        (
            {"object_curves": ScoreCurves("sigmoid", (0.0, 1.0), ((0.0, 1.0),) * (len(spec.objects) + 2))},
            "object_curves",
        ),
    ):
        thresholds = msgspec.structs.replace(spec.thresholds, **changed)
        write_model_spec(msgspec.structs.replace(spec, thresholds=thresholds), folder)
        with pytest.raises(ModelError, match=rf"has \d+ {what}, but {len(spec.objects)} objects"):
            load_model(folder)
