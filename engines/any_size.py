"""ONNX files of the frame entry that take pictures of any size, and their form for one size.

PyTorch's exporter writes the centres and strides of the pyramid's cells as constants of one size. Here they become
operators on the input's height and width, which engines compute once, when they are opened at a size.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from engines.arrays import Array, Float
from engines.errors import ModelError
from engines.sizes import STRIDES
from engines.spec import HEIGHT, INPUT, WIDTH

POINTS: Final = "grid/points"  # (A, 2) xy of the cells' centres
CELL_STRIDES: Final = "grid/strides"  # (A, 1)
OF_GRID: Final = "grid/"  # begins the names of all that makes them


def cell_grid(height: int, width: int) -> tuple[Float, Float]:
    """Centres xy (A, 2) and strides (A, 1) of every cell of the pyramid, in pixels, levels in the order of STRIDES."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        points.append((np.stack([x, y], axis=-1).reshape(-1, 2) + 0.5) * stride)
        strides.append(np.full((len(points[-1]), 1), stride))
    return np.concatenate(points).astype(np.float32), np.concatenate(strides).astype(np.float32)


def free_size(network: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """A frame entry for pictures of one size -> the same for any size; what it gives at that size stays as it is.

    Raises:
        ModelError: it is for another size.
    """
    made = onnx.ModelProto()
    made.CopyFrom(network)
    graph = made.graph
    taken = next(each for each in graph.input if each.name == INPUT).type.tensor_type.shape.dim
    if [taken[1].dim_value, taken[2].dim_value] != [height, width]:
        raise ModelError(f"the frame entry is for {[each.dim_value for each in taken[1:3]]}, not {[height, width]}")
    taken[1].dim_param, taken[2].dim_param = HEIGHT, WIDTH
    replaced = _replace_constants(graph, *cell_grid(height, width))
    del graph.value_info[:]
    nodes = [*(_grid_nodes() if replaced else []), *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return onnx.shape_inference.infer_shapes(made)  # by which ONNX Runtime computes more of it at once


def fixed_size(network: onnx.ModelProto, height: int, width: int) -> onnx.ModelProto:
    """The inverse of :func:`free_size`, for any size; a network that has one already stays as it is."""
    made = onnx.ModelProto()
    made.CopyFrom(network)
    graph = made.graph
    taken = next(each for each in graph.input if each.name == INPUT).type.tensor_type.shape.dim
    if HEIGHT not in (each.dim_param for each in taken):
        return made
    taken[1].dim_value, taken[2].dim_value = height, width
    kept = [node for node in graph.node if not node.name.startswith(OF_GRID)]
    if len(kept) < len(graph.node):
        forms = _forms(*cell_grid(height, width))
        graph.initializer.extend(numpy_helper.from_array(values, name) for name, values in forms.items())
    del graph.node[:]
    graph.node.extend(kept)
    del graph.value_info[:]
    return made


def _replace_constants(graph: onnx.GraphProto, points: Float, strides: Float) -> bool:
    """Let what reads a constant that holds the grid read the grid; whether there was any."""
    forms = _forms(points, strides)
    instead: dict[str, str] = {}
    for name, values in _constants(graph).items():
        if values.shape[0] != len(points):
            continue
        same = [form for form, wanted in forms.items() if np.array_equal(values, wanted)]
        if same:
            instead[name] = same[0]
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = instead.get(name, name)
    kept = [node for node in graph.node if not (node.op_type == "Constant" and node.output[0] in instead)]
    stored = [each for each in graph.initializer if each.name not in instead]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(stored)
    return bool(instead)


def _forms(points: Float, strides: Float) -> dict[str, Float]:
    """What of the grid the heads read, by name: for boxes, and with one more dimension for landmarks."""
    return {
        POINTS: points,
        CELL_STRIDES: strides,
        f"{POINTS}3": points[:, None],
        f"{CELL_STRIDES}3": strides[:, None],
    }


def _constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """All constants with more than one dimension, by name."""
    found = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found |= zip(node.output, (each.t for each in node.attribute if each.name == "value"), strict=False)
    return {name: numpy_helper.to_array(each) for name, each in found.items() if len(each.dims) > 1}


def _grid_nodes() -> list[onnx.NodeProto]:
    """Operators that make the grid of the input's height and width.

    They look at one picture: ONNX Runtime computes shapes when a session is opened only where all of it is known, and
    the number of pictures is not.
    """
    nodes: list[onnx.NodeProto] = []

    def constant(name: str, value: npt.ArrayLike) -> str:
        tensor = numpy_helper.from_array(np.asarray(value), f"{OF_GRID}{name}")
        nodes.append(helper.make_node("Constant", [], [tensor.name], name=tensor.name, value=tensor))
        return tensor.name

    def node(kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        given = f"{OF_GRID}{name}"
        nodes.append(helper.make_node(kind, inputs, [given], name=given, **attributes))
        return given

    zero, one = constant("0", np.int64(0)), constant("1", np.int64(1))
    first, second, third = (constant(f"axis{axis}", np.array([axis])) for axis in range(3))
    half = constant("half", np.float32(0.5))
    flat = constant("flat", np.array([-1, 2]))
    shape = node("Shape", "shape", node("Gather", "picture", INPUT, zero, axis=0))
    sides = {side: node("Gather", side, shape, axis, axis=0) for side, axis in (("h", first), ("w", second))}
    points, strides = [], []
    for stride in STRIDES:
        whole, pixels = constant(f"{stride}", np.array([stride])), constant(f"{stride}px", np.float32(stride))
        count, middles = {}, {}
        for side, pixel_count in sides.items():
            count[side] = node("Div", f"{stride}/{side}", pixel_count, whole)
            end = node("Squeeze", f"{stride}/{side}/end", count[side], first)
            steps = node("Range", f"{stride}/{side}/steps", zero, end, one)
            moved = node("Add", f"{stride}/{side}/moved", node("Cast", f"{stride}/{side}/float", steps, to=1), half)
            middles[side] = node("Mul", f"{stride}/{side}/middles", moved, pixels)
        level = node("Concat", f"{stride}/level", count["h"], count["w"], axis=0)
        x = node("Expand", f"{stride}/x", node("Unsqueeze", f"{stride}/x0", middles["w"], first), level)
        y = node("Expand", f"{stride}/y", node("Unsqueeze", f"{stride}/y1", middles["h"], second), level)
        pairs = [node("Unsqueeze", f"{stride}/{name}2", value, third) for name, value in (("x", x), ("y", y))]
        points.append(node("Reshape", f"{stride}/points", node("Concat", f"{stride}/pairs", *pairs, axis=2), flat))
        area = node("Mul", f"{stride}/area", count["h"], count["w"])
        column = node("Concat", f"{stride}/column", area, second, axis=0)
        strides.append(node("Expand", f"{stride}/strides", pixels, column))
    for name, levels in ((POINTS, points), (CELL_STRIDES, strides)):
        nodes.append(helper.make_node("Concat", levels, [name], name=f"{name}/all", axis=0))
        nodes.append(helper.make_node("Unsqueeze", [name, second], [f"{name}3"], name=f"{name}/three"))
    return nodes
