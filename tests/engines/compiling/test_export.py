import itertools
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from engines.compiling.export import OPSET, Trained, export
from engines.engine import open_engine
from engines.errors import ModelError
from engines.network.entries import FaceEntry, FrameEntry
from engines.spec import EntryName, Model, NetworkSettings, TaskName, Thresholds, load_model, output_names, write_spec
from tests.engines.compiling.made_network import FRAME_SIZE, trained
from tests.engines.evaluation.colours import OBJECTS, SCENES
from tests.engines.made_models import pictures
from tests.engines.training.made_data import TINY

ENTRIES: tuple[EntryName, ...] = ("frame", "face")


def expected(network: Trained, entry: EntryName, batch: np.ndarray) -> dict[str, np.ndarray]:
    """What PyTorch says."""
    built = FrameEntry(network.network(), FRAME_SIZE) if entry == "frame" else FaceEntry(network.network())
    with torch.no_grad():
        values = built.eval()(torch.from_numpy(batch))
    names = output_names(entry, network.settings.tasks)
    return {name: value.numpy() for name, value in zip(names, values, strict=True)}


def test_the_folder_holds_the_files_of_a_model_and_nothing_else(model: Model) -> None:
    assert {file.name for file in model.path.iterdir()} == {"frame.onnx", "face.onnx", "weights.pt", "spec.json"}


def test_the_spec_says_what_was_exported(model: Model, network: Trained) -> None:
    spec = model.spec
    assert (spec.name, spec.format, spec.network) == ("tiny", 1, TINY)
    assert (spec.objects, spec.scenes) == (OBJECTS, SCENES)
    assert (spec.frame.height, spec.frame.width) == FRAME_SIZE
    assert (spec.face.height, spec.face.width) == (112, 112)
    assert spec.thresholds == Thresholds(object_score=0.4)
    anchors = 8 * 12 + 4 * 6 + 2 * 3
    assert spec.frame.outputs == {
        "object_boxes": (anchors, 4),
        "object_scores": (anchors,),
        "object_labels": (anchors,),
        "face_boxes": (100, 4),
        "face_scores": (100,),
        "face_landmarks": (100, 5, 2),
        "scene": (len(SCENES),),
    }
    assert spec.face.outputs == {"embedding": (TINY.embedding,), "quality": ()}


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_input_is_uint8_nhwc_with_any_number_of_pictures_and_of_frames_any_size(
    model: Model, entry: EntryName
) -> None:
    (given,) = onnx.load(model.file(entry)).graph.input
    kind = given.type.tensor_type
    spec = model.spec.entry(entry)
    assert (given.name, kind.elem_type) == ("images", onnx.TensorProto.UINT8)
    batch, *rest = kind.shape.dim
    assert batch.dim_param and not batch.HasField("dim_value")
    sides = ["height", "width"] if entry == "frame" else [spec.height, spec.width]
    assert [side.dim_param or side.dim_value for side in rest] == [*sides, 3]


@pytest.mark.parametrize("entry", ENTRIES)
def test_only_standard_operators_in_one_self_contained_file(model: Model, entry: EntryName) -> None:
    graph = onnx.load(model.file(entry), load_external_data=False)
    onnx.checker.check_model(graph, full_check=True)
    assert {node.domain for node in graph.graph.node} <= {"", "ai.onnx"}
    assert [(each.domain, each.version) for each in graph.opset_import] == [("", OPSET)]
    assert not any(each.external_data for each in graph.graph.initializer)
    assert not graph.functions


@pytest.mark.parametrize("entry", ENTRIES)
def test_normalisations_are_folded_into_the_convolutions(model: Model, entry: EntryName) -> None:
    kinds = [node.op_type for node in onnx.load(model.file(entry)).graph.node]
    assert "Conv" in kinds
    # The one that is left follows a matrix product, in the identity head.
    assert kinds.count("BatchNormalization") <= (1 if entry == "face" else 0)
    assert "Dropout" not in kinds


@pytest.mark.parametrize("entry", ENTRIES)
def test_any_batch_gives_what_pytorch_gives(model: Model, network: Trained, entry: EntryName) -> None:
    spec = model.spec.entry(entry)
    session = onnxruntime.InferenceSession(model.file(entry), providers=["CPUExecutionProvider"])
    for count in (1, 3, 8):
        batch = pictures(count, spec.height, spec.width)
        wanted = expected(network, entry, batch)
        found = dict(zip(wanted, session.run(list(wanted), {"images": batch}), strict=True))
        for name in (each for each in wanted if "landmarks" not in each and "boxes" not in each):
            assert found[name].shape == (count, *spec.outputs[name])
            assert found[name].dtype == wanted[name].dtype
            if name != "object_labels":
                np.testing.assert_allclose(found[name], wanted[name], atol=1e-4, err_msg=name)


def test_pictures_of_a_batch_do_not_mix(model: Model) -> None:
    batch = pictures(3, *FRAME_SIZE)
    with open_engine(model, "frame", "onnxruntime", "f32") as engine:
        together = engine.infer(batch)["scene"]
        alone = np.concatenate([engine.infer(batch[row : row + 1])["scene"] for row in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # group normalisation asks for the batch's size
@pytest.mark.parametrize(
    "changes",
    [
        {"activation": "silu", "normalisation": "group"},
        {"activation": "hardswish", "depths": (1, 2, 1, 1)},
        {"class_width": 12, "mirrored_faces": True},
    ],
    ids=["silu, group", "hardswish, deeper", "parted, mirrored"],
)
def test_other_settings_export_too(tmp_path: Path, changes: dict[str, object]) -> None:
    made = trained(msgspec.structs.replace(TINY, **changes))
    export(made, tmp_path, (32, 32), Thresholds())
    exported = load_model(tmp_path)
    for entry in ENTRIES:
        assert {node.domain for node in onnx.load(exported.file(entry)).graph.node} <= {"", "ai.onnx"}
        spec = exported.spec.entry(entry)
        batch = pictures(3, spec.height, spec.width)
        with (
            open_engine(exported, entry, "onnxruntime", "f32") as compiled,
            open_engine(exported, entry, "torch", "f32") as reference,
        ):
            name = "scene" if entry == "frame" else "embedding"
            np.testing.assert_allclose(compiled.infer(batch)[name], reference.infer(batch)[name], atol=1e-4)


@pytest.mark.parametrize("size", [(0, 64), (-32, 64), (64, 65), (33, 64), (16, 16)])
def test_a_frame_size_that_does_not_divide_by_32_is_refused_before_anything_is_written(
    tmp_path: Path, network: Trained, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match=rf"frame_size must be multiples of 32, got {size[0]}x{size[1]}"):
        export(network, tmp_path / "out", size, Thresholds())
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_fit_the_settings_write_nothing(tmp_path: Path, network: Trained) -> None:
    wrong = Trained("wrong", NetworkSettings(), network.weights, OBJECTS, SCENES)
    with pytest.raises(RuntimeError, match="size mismatch"):
        export(wrong, tmp_path / "out", (64, 64), Thresholds())
    assert list(itertools.chain(tmp_path.rglob("*.onnx"), tmp_path.rglob("spec.json"))) == []


def test_a_spec_can_be_written_again_with_other_thresholds(tmp_path: Path, network: Trained) -> None:
    spec = export(network, tmp_path, (32, 32), Thresholds())
    before = load_model(tmp_path).fingerprint
    write_spec(msgspec.structs.replace(spec, thresholds=Thresholds(face_score=0.7)), tmp_path)
    again = load_model(tmp_path)
    assert again.spec.thresholds.face_score == 0.7
    assert again.fingerprint == before, "embeddings stay comparable"
    (tmp_path / "face.onnx").write_bytes(b"other")
    with pytest.raises(ModelError, match=r"face\.onnx does not match spec\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("tasks", "files", "outputs"),
    [
        (("scene",), {"frame.onnx"}, {"frame": {"scene": (len(SCENES),)}}),
        (
            ("faces", "scene"),
            {"frame.onnx"},
            {"frame": {"face_boxes": (84, 4), "face_scores": (84,), "face_landmarks": (84, 5, 2), "scene": (3,)}},
        ),
        (("identity",), {"face.onnx"}, {"face": {"embedding": (16,), "quality": ()}}),
    ],
    ids=["scene needs no neck", "no objects", "no frame entry"],
)
def test_only_the_entries_and_outputs_of_the_tasks_are_written(
    tmp_path: Path, tasks: tuple[TaskName, ...], files: set[str], outputs: dict[EntryName, dict[str, tuple[int, ...]]]
) -> None:
    made = trained(msgspec.structs.replace(TINY, tasks=tasks))
    export(made, tmp_path, (64, 64), Thresholds())
    assert {file.name for file in tmp_path.iterdir()} == files | {"weights.pt", "spec.json"}
    exported = load_model(tmp_path)
    assert exported.spec.network.tasks == tasks
    assert {entry: exported.spec.entry(entry).outputs for entry in exported.spec.network.entries} == outputs
    for entry in exported.spec.network.entries:
        spec = exported.spec.entry(entry)
        batch = pictures(3, spec.height, spec.width)
        name = "embedding" if entry == "face" else "scene"
        with (
            open_engine(exported, entry, "openvino", "f32") as compiled,
            open_engine(exported, entry, "torch", "f32") as reference,
        ):
            np.testing.assert_allclose(compiled.infer(batch)[name], reference.infer(batch)[name], atol=1e-4)


def test_scenes_are_lowered_beside_the_others(network: Trained) -> None:
    lowered = network.lowered({SCENES[1]}, 1.5)
    batch = torch.from_numpy(pictures(3, *FRAME_SIZE))
    with torch.no_grad():
        before, after = (each.network().frame(batch)["scene"] for each in (network, lowered))
    wanted = torch.tensor([1.5 if scene == SCENES[1] else 0.0 for scene in SCENES]).expand(3, -1)
    torch.testing.assert_close(before - after, wanted)


def test_none_of_these_is_likelier_than_all_else_where_the_energy_is_low(network: Trained, tmp_path: Path) -> None:
    batch = pictures(8, *FRAME_SIZE)
    with torch.no_grad():
        logits = network.network().frame(torch.from_numpy(batch))["scene"]
    energy = logits.logsumexp(dim=1).numpy()
    cut = float(np.median(energy))
    with_none = network.with_none(cut)
    assert with_none.scenes == (*SCENES, "none of these")
    export(with_none, tmp_path, FRAME_SIZE, Thresholds())
    with open_engine(load_model(tmp_path), "frame", "onnxruntime", "f32") as engine:
        said = engine.infer(batch)["scene"]
    assert said.shape == (8, len(SCENES) + 1)
    np.testing.assert_array_equal(said[:, -1] > 0.5, energy < cut)
    np.testing.assert_allclose(said[:, :-1] / said[:, :-1].sum(axis=1, keepdims=True), logits.softmax(dim=1), atol=1e-5)
