"""Multiply-accumulate operations of a network, counted alike for every file that OpenVINO reads."""

from math import prod
from pathlib import Path
from typing import Final

import openvino as ov

# Where a convolution's weights stop to be output channels: (out, in, ...) and (groups, out, in, ...).
SUMMED_FROM: Final = {"Convolution": 1, "GroupConvolution": 2}


def macs(path: Path) -> int:
    """Of one picture: convolutions and matrix products; everything else is small.

    Args:
        path: an ONNX file or OpenVINO's XML, with one input, batch first.
    """
    model = ov.Core().read_model(path)
    _batch, *picture = model.input(0).partial_shape
    model.reshape([1, *(side.get_length() for side in picture)])
    return sum(_of(node) for node in model.get_ops())


def _of(node: ov.Node) -> int:
    kind = node.get_type_name()
    if kind in SUMMED_FROM:
        summed = list(node.input(1).get_shape())[SUMMED_FROM[kind] :]
    elif kind == "MatMul":
        summed = [list(node.input(0).get_shape())[-2 if node.get_attributes()["transpose_a"] else -1]]
    else:
        return 0
    return prod([*node.output(0).get_shape(), *summed])
