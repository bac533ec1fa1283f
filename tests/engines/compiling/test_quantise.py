from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from engines.backends.untold_openvino import openvino
from engines.compiling.quantise import Quantiser
from engines.errors import ModelError
from engines.spec import EntryName, Model
from tests.engines.made_models import pictures, write_onnx

ENTRIES: tuple[EntryName, ...] = ("frame", "face")
LAYERS = ("Conv", "Gemm", "MatMul")


def made(model: Model, entry: EntryName) -> Quantiser:
    spec = model.spec.entry(entry)
    return Quantiser(model.file(entry), [pictures(count, spec.height, spec.width) for count in (2, 3)])


@pytest.fixture(scope="module")
def frame(model: Model) -> Quantiser:
    return made(model, "frame")


@pytest.fixture(scope="module", params=ENTRIES)
def file(request: pytest.FixtureRequest, model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model]:
    """Both entries' int8 files, one after the other."""
    out = tmp_path_factory.mktemp("int8") / f"{request.param}.int8.onnx"
    made(model, request.param).write(out)
    return out, model


def entry_of(file: Path) -> EntryName:
    return "frame" if file.name.startswith("frame") else "face"


def in_int8(path: Path) -> dict[str, bool]:
    """Every layer of a file by name, and whether its weights are stored in int8."""
    graph = onnx.load(path).graph
    stored = {each.name: each.data_type for each in graph.initializer}
    made_by = {name: node for node in graph.node for name in node.output}
    found = {}
    for node in graph.node:
        if node.op_type in LAYERS:
            source = made_by.get(node.input[1])
            found[node.name] = source is not None and stored.get(source.input[0]) == TensorProto.INT8
    return found


def test_the_network_is_int8_and_its_heads_stay_in_float(file: tuple[Path, Model]) -> None:
    heads = ("towers", "predict", "linear", "quality")
    for name, quantised in in_int8(file[0]).items():
        assert quantised != any(part in name for part in heads), name


def test_the_way_in_and_out_is_that_of_the_f32_file(file: tuple[Path, Model]) -> None:
    path, model = file
    f32, int8 = onnx.load(model.file(entry_of(path))), onnx.load(path)
    assert list(int8.graph.input) == list(f32.graph.input)
    assert [each.name for each in int8.graph.output] == [each.name for each in f32.graph.output]
    assert {node.domain for node in int8.graph.node} <= {"", "ai.onnx"}, "standard operators alone"
    onnx.checker.check_model(int8, full_check=True)


def test_weights_have_a_scale_per_channel_and_activations_one_unsigned(file: tuple[Path, Model]) -> None:
    graph = onnx.load(file[0]).graph
    stored = {each.name: each for each in graph.initializer}
    weights = [node for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]
    kernels = [node for node in weights if stored[node.input[0]].data_type == TensorProto.INT8]
    assert kernels and all(
        numpy_helper.to_array(stored[node.input[1]]).shape == (stored[node.input[0]].dims[0],) for node in kernels
    )
    activations = [node for node in graph.node if node.op_type == "QuantizeLinear"]
    assert activations and all(stored[node.input[2]].data_type == TensorProto.UINT8 for node in activations)


def test_both_engines_for_cpus_say_about_what_f32_says(file: tuple[Path, Model]) -> None:
    path, model = file
    entry = entry_of(path)
    spec = model.spec.entry(entry)
    names = ["scene"] if entry == "frame" else ["embedding"]
    for count in (1, 3):
        batch = pictures(count, spec.height, spec.width)
        f32 = onnxruntime.InferenceSession(model.file(entry)).run(names, {"images": batch})[0]
        ort = onnxruntime.InferenceSession(path).run(names, {"images": batch})[0]
        ov = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"images": batch})
        for found in (ort, ov[names[0]]):
            assert found.shape == f32.shape
            np.testing.assert_allclose(found, f32, atol=0.05)
        assert not np.array_equal(ort, f32), "something was quantised"


def test_a_layer_left_in_float_keeps_its_weights(frame: Quantiser, tmp_path: Path) -> None:
    kept = [name for name in frame.layers if "stem" in name or "lateral.1" in name]
    frame.write(tmp_path / "int8.onnx", kept)
    found = in_int8(tmp_path / "int8.onnx")
    assert len(kept) == 2 and not any(found[name] for name in kept)
    assert all(found[name] for name in frame.layers if name in found and name not in kept)


def test_with_every_layer_in_float_nothing_is_lost(frame: Quantiser, model: Model, tmp_path: Path) -> None:
    frame.write(tmp_path / "int8.onnx", frame.layers)
    batch = pictures(2, 64, 96)
    f32, int8 = (onnxruntime.InferenceSession(path) for path in (model.file("frame"), tmp_path / "int8.onnx"))
    for wanted, found in zip(f32.run(None, {"images": batch}), int8.run(None, {"images": batch}), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_a_layer_costs_the_outputs_that_come_after_it(frame: Quantiser) -> None:
    errors = dict(frame.errors(pictures(2, 64, 96)))
    assert tuple(errors) == frame.layers
    necks = [each for layer, each in errors.items() if "/bottom_up." in layer]
    assert necks and all(costs["object_boxes"] > 0 for costs in necks)
    assert all(costs["scene"] == 0 for costs in necks), "the scene is told before"
    downs = [each for layer, each in errors.items() if "/down/" in layer and "trunk" in layer]
    assert downs and all(value > 0 for costs in downs for value in costs.values()), "the trunk serves everything"
    assert all(0 <= value < 1 for costs in errors.values() for value in costs.values())


def test_the_library_does_not_print_between_the_lines_of_json(model: Model, capfd: pytest.CaptureFixture[str]) -> None:
    made(model, "face")
    assert capfd.readouterr().out == ""


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "frame.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"frame\.onnx: is not an ONNX network"):
        Quantiser(tmp_path / "frame.onnx", [])


def test_a_network_without_layers_is_refused(tmp_path: Path) -> None:
    write_onnx(tmp_path / "frame.onnx", 32, 48)
    with pytest.raises(ModelError, match=r"frame\.onnx: has no convolution before its heads' outputs"):
        Quantiser(tmp_path / "frame.onnx", [])
