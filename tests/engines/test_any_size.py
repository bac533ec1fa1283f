"""One file of the frame entry for every height and width."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from engines.any_size import cell_grid, fixed_size, free_size
from engines.engine import open_engine
from engines.errors import ModelError
from engines.network.features import anchor_points
from engines.sizes import at_size
from engines.spec import Backend, Model, load_model, write_spec
from tests.engines.compiling.made_network import FRAME_SIZE
from tests.engines.made_models import computed, pictures

SIZES = [FRAME_SIZE, (128, 96), (96, 128), (64, 224)]  # height, width
BACKENDS: tuple[Backend, ...] = ("onnxruntime", "openvino")


@pytest.fixture(scope="module")
def graph(exported: Model) -> onnx.ModelProto:
    return onnx.load(exported.file("frame"))


def optimised(graph: onnx.ModelProto, folder: Path, **sides: int) -> list[str]:
    """The nodes that ONNX Runtime runs of a network that is opened at a size."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    for name, pixels in sides.items():
        options.add_free_dimension_override_by_name(name, pixels)
    onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node]


@pytest.mark.parametrize("size", SIZES)
def test_the_grid_is_that_of_the_network(size: tuple[int, int]) -> None:
    points, strides, cells = anchor_points(*size)
    ours = cell_grid(*size)
    assert len(ours[0]) == cells
    np.testing.assert_array_equal(ours[0], points.numpy())
    np.testing.assert_array_equal(ours[1][:, 0], strides.numpy())


@pytest.mark.parametrize("size", SIZES)
def test_at_every_size_it_gives_what_pytorch_gives(exported: Model, size: tuple[int, int]) -> None:
    model = at_size(exported, size[::-1])
    batch = pictures(3, *size)
    with open_engine(model, "frame", "torch", "f32") as engine:
        wanted = engine.infer(batch)
    for backend in BACKENDS:
        with open_engine(model, "frame", backend, "f32") as engine:
            found = engine.infer(batch)
        assert found.keys() == wanted.keys()
        for name in ("object_scores", "face_scores", "scene"):  # rows of equal score may stand in another order
            np.testing.assert_allclose(found[name], wanted[name], atol=1e-4, err_msg=f"{backend}: {name}")
        for name in ("object_boxes", "face_boxes"):
            one, other = (np.sort(each[name], axis=1) for each in (found, wanted))
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=0.05, err_msg=f"{backend}: {name}")


@pytest.mark.parametrize("size", SIZES)
def test_a_fixed_form_gives_the_same_bits(graph: onnx.ModelProto, size: tuple[int, int]) -> None:
    batch = pictures(2, *size)
    fixed = fixed_size(graph, *size)
    assert not [node for node in fixed.graph.node if node.op_type == "Range"]
    onnx.checker.check_model(fixed, full_check=True)
    runs = [computed(each.SerializeToString(), batch) for each in (graph, fixed)]
    for free, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(free, other)


def test_an_engine_that_is_opened_at_a_size_computes_no_grid(graph: onnx.ModelProto, tmp_path: Path) -> None:
    assert "Range" in optimised(graph, tmp_path)
    at_once = optimised(graph, tmp_path, height=128, width=96)
    fixed = onnx.shape_inference.infer_shapes(fixed_size(graph, 128, 96))
    assert sorted(at_once) == sorted(optimised(fixed, tmp_path))
    assert "Range" not in at_once


def test_freeing_a_fixed_form_gives_the_bits_it_gave(graph: onnx.ModelProto) -> None:
    fixed = fixed_size(graph, *FRAME_SIZE)
    batch = pictures(2, *FRAME_SIZE)
    again = free_size(fixed, *FRAME_SIZE)
    runs = [computed(each.SerializeToString(), batch) for each in (fixed, again)]
    for before, after in zip(*runs, strict=True):
        np.testing.assert_array_equal(before, after)
    assert onnxruntime.InferenceSession(again.SerializeToString()).run(None, {"images": pictures(1, 128, 96)})
    with pytest.raises(ModelError, match=r"for \[64, 96\], not \[96, 64\]"):
        free_size(fixed, 96, 64)


def test_a_network_without_a_grid_is_freed_alone() -> None:
    taken = helper.make_tensor_value_info("images", onnx.TensorProto.UINT8, ["batch", 64, 96, 3])
    given = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, None)
    made = helper.make_graph([helper.make_node("Cast", ["images"], ["x"], to=1)], "cast", [taken], [given])
    freed = free_size(helper.make_model(made), 64, 96)
    assert [node.op_type for node in freed.graph.node] == ["Cast"]
    assert [each.dim_param for each in freed.graph.input[0].type.tensor_type.shape.dim[1:3]] == ["height", "width"]


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        ((100, 64), "width and height must be multiples of 32"),
        ((0, 64), "width and height must be multiples of 32"),
        ((32, 64), "has 42 cells, and the file gives the best 126 of them"),
    ],
)
def test_a_size_that_the_file_cannot_take_is_refused(exported: Model, size: tuple[int, int], sentence: str) -> None:
    with pytest.raises(ModelError, match=rf"cannot have the size {size[0]}x{size[1]}: .*{sentence}"):
        at_size(exported, size)


def test_a_file_of_one_size_is_refused_at_another(exported: Model) -> None:
    spec = msgspec.structs.replace(exported.spec, frame=msgspec.structs.replace(exported.spec.frame, multiple_of=None))
    old = Model(exported.path, spec)
    assert at_size(old, (96, 64)) is old
    with pytest.raises(ModelError, match="its file is for 96x64 alone"):
        at_size(old, (128, 64))


def test_it_stays_the_same_model(exported: Model) -> None:
    model = at_size(at_size(exported, (128, 64)), (128, 96))
    assert (model.spec.frame.width, model.spec.frame.height) == (128, 96)
    assert model.at_reference is exported
    assert exported.at_reference is exported
    assert model.fingerprint == exported.fingerprint
    assert model.spec.face == exported.spec.face


def test_a_batch_of_another_size_is_refused(exported: Model) -> None:
    with (
        open_engine(at_size(exported, (128, 64)), "frame", "onnxruntime", "f32") as engine,
        pytest.raises(Exception, match=r"must have shape \(N >= 1, 64, 128, 3\)"),
    ):
        engine.infer(pictures(1, *FRAME_SIZE))


def test_files_written_anew_around_the_same_weights_keep_their_fingerprint(exported: Model, tmp_path: Path) -> None:
    for file in exported.path.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    write_spec(msgspec.structs.replace(exported.spec, known_as="0123456789abcdef"), tmp_path)
    assert load_model(tmp_path).fingerprint == "0123456789abcdef"
