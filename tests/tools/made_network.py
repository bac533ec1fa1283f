"""A model folder whose network always says the same: one person with a face, in the same place."""

from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.spec import EntrySpec, Model, ModelSpec, NetworkSettings, load_model, sha256_of

FRAME = 64  # pixels, both sides of the frame entry's input
FACE = 112
SAID = {
    "object_boxes": np.array([[8, 16, 40, 48]], np.float32),
    "object_scores": np.array([0.9], np.float32),
    "object_labels": np.array([0], np.float32),
    "face_boxes": np.array([[12, 18, 28, 34]], np.float32),
    "face_scores": np.array([0.9], np.float32),
    "face_landmarks": np.array([[[17, 24], [23, 24], [20, 28], [18, 31], [22, 31]]], np.float32),
    "scene": np.array([0.75, 0.25], np.float32),
}
EMBEDDED = {"embedding": np.eye(8, dtype=np.float32)[0], "quality": np.array(0.5, np.float32)}


def write_constant_model(folder: Path) -> Model:
    """Write the folder and read it as a model."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = _entry(folder / "frame.onnx", FRAME, SAID)
    face = _entry(folder / "face.onnx", FACE, EMBEDDED)
    spec = ModelSpec(1, "constant", frame, face, ("person", "dog"), ("street", "room"), NetworkSettings())
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    return load_model(folder)


def _entry(path: Path, side: int, says: dict[str, npt.NDArray[np.float32]]) -> EntrySpec:
    """Every output is its constant plus nothing, once for each picture of the batch."""
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
    ]
    constants = [numpy_helper.from_array(np.array(0, np.float32), "zero")]
    for name, value in says.items():
        shape = np.array([-1, *[1] * value.ndim], np.int64)
        constants += [
            numpy_helper.from_array(shape, f"{name}_shape"),
            numpy_helper.from_array(value[None], f"{name}_value"),
        ]
        nodes += [
            helper.make_node("Reshape", ["nothing", f"{name}_shape"], [f"{name}_nothing"]),
            helper.make_node("Add", [f"{name}_nothing", f"{name}_value"], [name]),
        ]
    graph = helper.make_graph(
        nodes,
        "constants",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", side, side, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *value.shape]) for name, value in says.items()],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    outputs = {name: value.shape for name, value in says.items()}
    return EntrySpec(path.name, sha256_of(path), side, side, outputs)
