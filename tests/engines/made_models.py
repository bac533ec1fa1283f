"""Model folders made for tests: one graph that averages colours, small enough to open in milliseconds."""

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from engines.spec import EntrySpec, Model, ModelSpec, NetworkSettings, TaskName, load_model, sha256_of

OUTPUTS = {"scene": (3,), "embedding": (3,), "quality": ()}  # of both entries: as many as either needs
TASKS: tuple[TaskName, ...] = ("scene", "identity")


def write_onnx(path: Path, height: int, width: int, *, source: str = "images", kind: int = TensorProto.UINT8) -> None:
    """A graph that gives the mean colour (N, 3), its complement (N, 3) and the brightness (N,), all in [0, 1]."""
    nodes = [
        helper.make_node("Cast", [source], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "white"], ["light"]),
        helper.make_node("ReduceMean", ["light"], ["scene"], axes=[1, 2], keepdims=0),
        helper.make_node("Sub", ["one", "scene"], ["embedding"]),
        helper.make_node("ReduceMean", ["light"], ["average"], axes=[1, 2, 3], keepdims=0),
        # OpenVINO removes this one, and its compiled output then has both names.
        helper.make_node("Identity", ["average"], ["quality"]),
    ]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info(source, kind, ["n", height, width, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape]) for name, shape in OUTPUTS.items()],
        [
            helper.make_tensor(name, TensorProto.FLOAT, [], [value])
            for name, value in {"white": 255.0, "one": 1.0}.items()
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def expected(batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float64]]:
    """What :func:`write_onnx`'s graph gives."""
    colour = batch.mean(axis=(1, 2)) / 255
    return {"scene": colour, "embedding": 1 - colour, "quality": colour.mean(axis=1)}


def write_model(folder: Path, outputs: dict[str, tuple[int, ...]] = OUTPUTS) -> Model:
    """A model folder of that graph, 32x48 (height, width) for frames and 16x16 for faces.

    ``outputs`` are what the spec says of the frame entry.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(folder / "frame.onnx", 32, 48)
    write_onnx(folder / "face.onnx", 16, 16)
    return write_spec(folder, (32, 48), outputs)


def write_spec(
    folder: Path,
    frame_size: tuple[int, int],
    outputs: dict[str, tuple[int, ...]] = OUTPUTS,
    network: NetworkSettings | None = None,
    face_size: int = 16,
) -> Model:
    """Describe the ONNX files that lie in ``folder`` and read the folder as a model."""
    frame = EntrySpec("frame.onnx", sha256_of(folder / "frame.onnx"), *frame_size, outputs)
    face = EntrySpec("face.onnx", sha256_of(folder / "face.onnx"), face_size, face_size, OUTPUTS)
    settings = network or NetworkSettings(tasks=TASKS)
    spec = ModelSpec(1, "made", frame, face, ("person", "dog"), ("street", "room"), settings)
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    return load_model(folder)


def write_partial_model(folder: Path, task: Literal["scene", "identity"]) -> Model:
    """The same, but with one of its two tasks alone, and a name for each of its three scenes."""
    spec = write_model(folder).spec
    entries = {"face": None} if task == "scene" else {"frame": None}
    scenes = ("street", "room", "field")
    spec = msgspec.structs.replace(spec, network=NetworkSettings(tasks=(task,)), scenes=scenes, **entries)
    (folder / "spec.json").write_bytes(msgspec.json.encode(spec))
    return load_model(folder)


def computed(network: bytes, batch: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
    """What a file gives for pictures, node by node.

    What ONNX Runtime would make one node of, and so round once, differs between processors.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs: list[npt.NDArray[Any]] = onnxruntime.InferenceSession(network, options).run(None, {"images": batch})
    return outputs


def pictures(count: int, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Noise, the same every time."""
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), np.uint8)


def greatest_weight(file: Path) -> int:
    """The greatest magnitude of the 8-bit weights in a QDQ file; 0 where it has none."""
    graph = onnx.load(file).graph
    stored = {each.name: each for each in graph.initializer if each.data_type == onnx.TensorProto.INT8}
    weights = [node.input[0] for node in graph.node if node.op_type == "DequantizeLinear" and node.input[0] in stored]
    return max((int(np.abs(numpy_helper.to_array(stored[name]).astype(np.int32)).max()) for name in weights), default=0)
