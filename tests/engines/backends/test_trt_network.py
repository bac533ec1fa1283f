"""The ONNX that TensorRT is given."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.backends.trt_network import tensorrt_network
from engines.compiling.quantise import Quantiser
from engines.errors import ModelError
from engines.spec import EntryName, Model, Precision
from tests.engines.compiling.made_network import FRAME_SIZE
from tests.engines.made_models import computed, pictures, write_onnx
from tests.fakes.parsed_network import what_tensorrt_refuses

ENTRIES: tuple[EntryName, ...] = ("frame", "face")
CONVOLUTIONS = ("Conv", "Gemm", "MatMul")


@pytest.fixture(scope="module", params=ENTRIES)
def int8(request: pytest.FixtureRequest, model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = model.spec.entry(request.param)
    file = tmp_path_factory.mktemp("int8") / f"{request.param}.onnx"
    Quantiser(model.file(request.param), [pictures(3, spec.height, spec.width)], "tensorrt").write(file)
    return file


def network_of(file: Path, precision: Precision) -> bytes:
    return tensorrt_network(file, precision, FRAME_SIZE)


def kinds(network: bytes) -> dict[str, int]:
    """The type of the first output of every layer, by node name."""
    inferred = onnx.shape_inference.infer_shapes(onnx.load_from_string(network), strict_mode=True).graph
    types = {each.name: each.type.tensor_type.elem_type for each in (*inferred.value_info, *inferred.output)}
    return {node.name: types[node.output[0]] for node in inferred.node if node.op_type in CONVOLUTIONS}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("precision", ["f32", "f16"])
def test_it_breaks_no_rule_of_tensorrt_as_the_file_does(model: Model, entry: EntryName, precision: Precision) -> None:
    refused = what_tensorrt_refuses(onnx.load(model.file(entry)))
    assert {error.desc() for error in refused} == {"uint8 can only be cast to float32 or float16"}
    assert "Transpose" in {error.node_operator() for error in refused}
    network = onnx.load_from_string(network_of(model.file(entry), precision))
    onnx.checker.check_model(network, full_check=True)
    assert what_tensorrt_refuses(network) == []


@pytest.mark.parametrize("entry", ENTRIES)
def test_f32_is_what_the_file_says_bit_for_bit(model: Model, entry: EntryName) -> None:
    spec = model.spec.entry(entry)
    batch = pictures(2, spec.height, spec.width)
    before = computed(model.file(entry).read_bytes(), batch)
    for name, a, b in zip(spec.outputs, before, computed(network_of(model.file(entry), "f32"), batch), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.parametrize("entry", ENTRIES)
def test_f16_is_near_it_and_its_outputs_are_of_the_same_types(model: Model, entry: EntryName) -> None:
    spec = model.spec.entry(entry)
    batch = pictures(2, spec.height, spec.width)
    before = computed(model.file(entry).read_bytes(), batch)
    after = computed(network_of(model.file(entry), "f16"), batch)
    for name, a, b in zip(spec.outputs, before, after, strict=True):
        assert a.dtype == b.dtype, name
        if not name.endswith(("boxes", "labels", "landmarks")):  # whose rows stand in the order of the scores
            np.testing.assert_allclose(a, b, atol=2e-3, err_msg=name)


@pytest.mark.parametrize("entry", ENTRIES)
def test_layers_are_f16_but_for_the_heads_which_are_f32(model: Model, entry: EntryName) -> None:
    found = kinds(network_of(model.file(entry), "f16"))
    heads = {name for name, kind in found.items() if kind == TensorProto.FLOAT}
    assert heads and all(any(word in name for word in ("predict", "linear", "quality")) for name in heads), heads
    halves = {name for name, kind in found.items() if kind == TensorProto.FLOAT16}
    assert len(halves) > len(heads)
    assert halves | heads == set(found)


def test_int8_breaks_no_rule_and_what_it_leaves_in_float_is_f16(int8: Path, model: Model) -> None:
    network = network_of(int8, "int8")
    parsed = onnx.load_from_string(network)
    onnx.checker.check_model(parsed, full_check=True)
    assert what_tensorrt_refuses(parsed) == []
    made_by = {name: node for node in parsed.graph.node for name in node.output}
    found = kinds(network)
    for node in parsed.graph.node:
        if node.op_type not in CONVOLUTIONS:
            continue
        weights = made_by.get(node.input[1])
        quantised = weights is not None and weights.op_type == "DequantizeLinear"
        assert quantised != any(word in node.name for word in ("towers", "predict", "linear", "quality")), node.name
        assert (found[node.name] == TensorProto.FLOAT16) == ("towers" in node.name), node.name
        if quantised:  # a cast between would keep TensorRT from joining them
            assert made_by[node.input[0]].op_type == "DequantizeLinear", node.name


def test_the_int8_file_for_cpus_breaks_the_rules(model: Model, tmp_path: Path) -> None:
    spec = model.spec.entry("face")
    Quantiser(model.file("face"), [pictures(3, spec.height, spec.width)]).write(tmp_path / "face.onnx")
    refused = what_tensorrt_refuses(onnx.load_from_string(network_of(tmp_path / "face.onnx", "int8")))
    assert {error.desc() for error in refused} >= {"only symmetric int8, zero point is uint8"}


def test_int8_gives_about_what_f32_gives(int8: Path, model: Model) -> None:
    entry: EntryName = "frame" if int8.stem == "frame" else "face"
    spec = model.spec.entry(entry)
    batch = pictures(3, spec.height, spec.width)  # those that it was calibrated on
    before = computed(model.file(entry).read_bytes(), batch)
    after = computed(network_of(int8, "int8"), batch)
    names = list(spec.outputs)
    for name in {"scene", "embedding"}.intersection(names):
        np.testing.assert_allclose(before[names.index(name)], after[names.index(name)], atol=0.1, err_msg=name)


def test_weights_that_f16_cannot_hold_become_the_greatest_that_it_can(tmp_path: Path) -> None:
    weights = np.array([[1e6, -1e6], [1.0, 0.0]], np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("MatMul", ["y", "v"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "two layers",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", 2])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.eye(2, dtype=np.float32), "v")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "a.onnx")
    network = onnx.load_from_string(network_of(tmp_path / "a.onnx", "f16")).graph
    [held] = [numpy_helper.to_array(each) for each in network.initializer if each.name == "w_f16"]
    assert held.dtype == np.float16 and held.tolist() == [[65504.0, -65504.0], [1.0, 0.0]]
    assert [each.name for each in network.initializer if each.name == "w"] == [], "the f32 ones are gone"


def test_nodes_without_names_are_kept_apart(tmp_path: Path) -> None:
    write_onnx(tmp_path / "a.onnx", 4, 4)
    batch = pictures(2, 4, 4)
    for a, b in zip(
        computed((tmp_path / "a.onnx").read_bytes(), batch),
        computed(network_of(tmp_path / "a.onnx", "f16"), batch),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"no network")
    with pytest.raises(ModelError, match=r"a\.onnx: is not an ONNX network"):
        network_of(tmp_path / "a.onnx", "f16")
