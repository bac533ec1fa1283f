"""An int8 file as f32 arithmetic: what a processor gives whose 8-bit products are summed without overflow.

With VNNI, AMX or the dot products of Arm, products are summed in 32 bits. AVX2 sums pairs of them in 16 bits first, and
cuts what does not fit: 2 x 255 x 127 does not, 2 x 255 x 64 does. Weights within 7 bits thus give the same everywhere.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from engines.arrays import Array, Float
from engines.errors import ModelError

REDUCED_LIMIT = 64  # the greatest magnitude of a 7-bit weight: 2 x 255 x 64 fits into a signed 16-bit number


def write_simulated(file: Path, out: Path) -> None:
    """Write a QDQ ``file`` as f32 operators alone, so that no engine finds anything in it to run in 8 bits.

    Weights are the numbers that theirs stand for; activations are divided by their scale, rounded half to even, cut to
    the range of their type and multiplied. The outputs are those of exact integer arithmetic but for the rounding of
    f32.

    Raises:
        ModelError: something is dequantised that is neither stored nor was quantised by scale and zero point.
    """
    network = onnx.load(file)
    stored = {each.name: each for each in network.graph.initializer}
    quantised = {node.output[0] for node in network.graph.node if node.op_type == "QuantizeLinear"}
    nodes = []
    for node in network.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            values = _dequantised(node, [numpy_helper.to_array(stored[name]) for name in node.input])
            network.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
        elif node.op_type == "DequantizeLinear":
            if node.input[0] not in quantised:
                raise ModelError(f"{file}: {node.name} dequantises what nothing quantised")
            nodes.append(onnx.helper.make_node("Mul", node.input[:2], node.output, node.name))
        elif node.op_type == "QuantizeLinear":
            zero = numpy_helper.to_array(stored[node.input[2]])
            network.graph.initializer.extend(_limits(node.output[0], zero))
            nodes += _rounded(node)
        else:
            nodes.append(node)
    del network.graph.node[:]
    network.graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    needed = [each for each in network.graph.initializer if each.name in read]
    del network.graph.initializer[:]
    network.graph.initializer.extend(needed)
    onnx.save(network, out)


def _dequantised(node: onnx.NodeProto, inputs: list[Array]) -> Float:
    values, scales, *zeros = (each.astype(np.float64) for each in inputs)
    axis = next((each.i for each in node.attribute if each.name == "axis"), 1)
    shape = [-1 if position == axis % max(1, values.ndim) else 1 for position in range(values.ndim)]
    if scales.size == 1:
        shape = [1] * values.ndim
    zero = zeros[0].reshape(shape) if zeros else 0.0
    return ((values - zero) * scales.reshape(shape)).astype(np.float32)


def _rounded(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes that give what a QuantizeLinear gives, less its zero point, in f32."""
    source, scale, out = node.input[0], node.input[1], node.output[0]
    return [
        onnx.helper.make_node("Div", [source, scale], [f"{out}.divided"], f"{node.name}.div"),
        onnx.helper.make_node("Round", [f"{out}.divided"], [f"{out}.rounded"], f"{node.name}.round"),
        onnx.helper.make_node(
            "Clip", [f"{out}.rounded", f"{out}.least", f"{out}.greatest"], [out], f"{node.name}.clip"
        ),
    ]


def _limits(name: str, zero: Array) -> list[onnx.TensorProto]:
    """The range of a quantised tensor, less its zero point."""
    kind, at = np.iinfo(zero.dtype.name), int(zero)
    ends = {"least": kind.min - at, "greatest": kind.max - at}
    return [numpy_helper.from_array(np.array(end, np.float32), f"{name}.{which}") for which, end in ends.items()]
