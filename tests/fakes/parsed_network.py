"""A network as TensorRT's parser sees it: what it refuses, and what it knows of the rest. ONNX Runtime runs it."""

import enum

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, numpy_helper

QUIET = 4  # fatal errors only


class DataType(enum.IntEnum):
    FLOAT, HALF, INT8, INT32, BOOL, UINT8, FP8, BF16, INT64, INT4 = range(10)


TYPES = {
    TensorProto.FLOAT: DataType.FLOAT,
    TensorProto.FLOAT16: DataType.HALF,
    TensorProto.INT32: DataType.INT32,
    TensorProto.INT64: DataType.INT64,
    TensorProto.UINT8: DataType.UINT8,
    TensorProto.BOOL: DataType.BOOL,
}
ARRAYS = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.UINT8: np.uint8,
    DataType.BOOL: np.bool_,
}


class ParserError:
    def __init__(self, node: onnx.NodeProto | None, desc: str) -> None:
        self._node, self._desc = node, desc

    def desc(self) -> str:
        return self._desc

    def node_name(self) -> str:
        return self._node.name if self._node else ""

    def node_operator(self) -> str:
        return self._node.op_type if self._node else ""


class Onnx:
    """What TensorRT knows of a network that it parsed."""

    def __init__(self, content: bytes) -> None:
        graph = onnx.load_from_string(content).graph
        self.inputs = {each.name: TYPES[each.type.tensor_type.elem_type] for each in graph.input}
        self.outputs = {each.name: TYPES[each.type.tensor_type.elem_type] for each in graph.output}
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.shapes = {
            each.name: tuple(side if isinstance(side, int) else -1 for side in each.shape)
            for each in (*self.session.get_inputs(), *self.session.get_outputs())
        }

    def inner_shapes(self) -> dict[str, tuple[int, ...]]:
        """What the outputs' shapes are without the batch dimension, which the file need not say."""
        [(name, kind)] = self.inputs.items()
        black = np.zeros((1, *self.shapes[name][1:]), ARRAYS[kind])
        return {
            name: values.shape[1:]
            for name, values in zip(self.outputs, self.session.run(None, {name: black}), strict=True)
        }


def what_tensorrt_refuses(network: onnx.ModelProto) -> list[ParserError]:
    """Rules of its documentation that our files could break."""
    graph = network.graph
    values = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    small = {each.name for each in graph.input if each.type.tensor_type.elem_type == TensorProto.UINT8}
    errors = []
    for node in graph.node:
        if node.op_type != "Cast" and small.intersection(node.input):
            errors.append(ParserError(node, "uint8 can only be cast to float32 or float16"))
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = values.get(node.input[2]) if len(node.input) > 2 else None
            if zero is not None and (zero.dtype != np.int8 or zero.any()):
                errors.append(ParserError(node, f"only symmetric int8, zero point is {zero.dtype}"))
    return errors
