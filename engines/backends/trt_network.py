"""An entry's ONNX file -> the network that TensorRT is given, in which every precision is written down.

TensorRT 11 types networks strongly, and 10 can: it computes in the types of the file and chooses none itself. So the
network becomes half precision by casts: from the first layer to the last one that another layer reads. Before that,
pixels are normalised, after that, heads predict and decode, both in f32: a box 160 pixels wide in f16 logits is off by
a third of a pixel. (onnxruntime's converter casts to f16 and back between any two nodes that are kept in f32; boxes
would be rounded to f16 several times.)
"""

from collections.abc import Collection
from pathlib import Path
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from engines.any_size import fixed_size
from engines.errors import ModelError, one_line
from engines.spec import INPUT, Precision

LAYERS: Final = frozenset({"Conv", "Gemm", "MatMul"})
# What may stand between layers in f16. Of all but Resize, every float input is of that type, of Resize the first is.
ELEMENTWISE: Final = frozenset({"Relu", "Add", "Mul", "Sigmoid", "HardSigmoid", "HardSwish", "MaxPool", "Resize"})
QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"
PIXELS: Final = "pixels_f32"


def tensorrt_network(file: Path, precision: Precision, size: tuple[int, int]) -> bytes:
    """Return serialised ONNX for TensorRT's parser.

    Args:
        file: of the entry: f32, or int8 with symmetric QDQ nodes.
        precision: "f32" leaves the arithmetic as it is. With "f16" and "int8", what the file has in f32 between its
            first layer and its heads runs in f16.
        size: height and width of the pictures, which are written into a network that takes any.

    Raises:
        ModelError: the file cannot be read.
    """
    try:
        network = onnx.load(file)
    except Exception as error:  # protobuf's own, which share no other base
        raise ModelError(f"{file}: is not an ONNX network: {one_line(error)}") from error
    network = fixed_size(network, *size)
    graph = network.graph
    _cast_pixels_first(graph)
    if precision != "f32":
        _halve(graph, _between_layers(graph))
    del graph.value_info[:]  # they tell the old types
    serialised: bytes = network.SerializeToString()
    return serialised


def _cast_pixels_first(graph: onnx.GraphProto) -> None:
    """Cast the input before anything else: TensorRT casts uint8, but does not transpose it."""
    if (INPUT, TensorProto.UINT8) not in ((each.name, each.type.tensor_type.elem_type) for each in graph.input):
        return
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == INPUT:
                node.input[index] = PIXELS
    graph.node.insert(0, helper.make_node("Cast", [INPUT], [PIXELS], name=PIXELS, to=TensorProto.FLOAT))


def _between_layers(graph: onnx.GraphProto) -> set[str]:
    """Return the nodes, by first output, that are or follow a layer and precede another, without int8 ones."""
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    after: set[str] = set()
    before: set[str] = set()
    for node in graph.node:  # ONNX sorts its nodes: what makes stands before what reads
        sources = [makers[name] for name in node.input if name in makers]
        if node.op_type in LAYERS or any(source.output[0] in after for source in sources):
            after.add(node.output[0])
    for node in reversed(graph.node):
        read_by = [reader for name in node.output for reader in readers.get(name, ())]
        if any(reader.op_type in LAYERS or reader.output[0] in before for reader in read_by):
            before.add(node.output[0])
    chosen: set[str] = set()
    for node in graph.node:
        sources = [makers[name] for name in node.input if name in makers]
        if node.op_type in LAYERS:
            in_int8 = node.input[1] in makers and makers[node.input[1]].op_type == DEQUANTISE
        else:  # between layers TensorRT joins it with them, as long as all are of one type
            in_int8 = any(reader.op_type == QUANTISE for name in node.output for reader in readers.get(name, ()))
            in_int8 |= any(source.op_type in LAYERS and source.output[0] not in chosen for source in sources)
            in_int8 |= any(source.op_type == DEQUANTISE for source in sources)
        if node.output[0] in after & before and node.op_type in LAYERS | ELEMENTWISE and not in_int8:
            chosen.add(node.output[0])
    return chosen


def _halve(graph: onnx.GraphProto, chosen: Collection[str]) -> None:
    """Run the chosen nodes in f16, with a cast wherever a tensor passes between them and the others."""
    constants = _constants(graph)
    twins: dict[tuple[str, int], str] = {}  # tensor and type -> the same tensor in that type
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        inside = node.output[0] in chosen
        kind = TensorProto.FLOAT16 if inside else TensorProto.FLOAT
        for index, name in enumerate(node.input):
            if not name or inside == (name in chosen) or (node.op_type == "Resize" and index):
                continue
            if (name, kind) not in twins:
                twin = twins[name, kind] = f"{name}_{'f16' if inside else 'f32'}"
                if name in constants:
                    graph.initializer.append(_half(constants[name], twin))
                else:
                    nodes.append(helper.make_node("Cast", [name], [twin], name=twin, to=kind))
            node.input[index] = twins[name, kind]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _drop_unread(graph)


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {each.name: each for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            values = (each.t for each in node.attribute if each.name == "value")
            found |= zip(node.output, values, strict=False)  # none where the value is not a tensor
    return {name: each for name, each in found.items() if each.data_type == TensorProto.FLOAT}


def _half(values: onnx.TensorProto, name: str) -> onnx.TensorProto:
    limit = np.finfo(np.float16).max
    return numpy_helper.from_array(numpy_helper.to_array(values).clip(-limit, limit).astype(np.float16), name)


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [each for each in graph.initializer if each.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)
