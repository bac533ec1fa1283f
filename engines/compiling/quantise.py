"""f32 ONNX file -> static QDQ int8 (Jacob et al., CVPR 2018): trunk and neck in int8, the heads in float.

Weights are int8 for each output channel apart, activations for each tensor as a whole. For CPUs those are uint8: with
signed ones ONNX Runtime's kernels ran no faster than f32. Weights for CPUs have 7 of the 8 bits, since AVX2 without
VNNI adds pairs of products in 16 bits: with 8 bits the network n lost a fifth of its object AP50 there. TensorRT takes
int8 with a zero point of 0 and nothing else, leaves biases in float, and wants to see how weights are rounded.

Ranges are percentiles over real pictures: of the extremes, least entropy, 99.99 and 99.999 %, the last kept most of the
signal where least was left, at the heads of faces and scenes.
"""

import contextlib
import io
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QDQQuantizer,
    QuantType,
    create_calibrator,
)

from engines.arrays import Double, Pictures
from engines.errors import ModelError, one_line
from engines.hardware import usable_cores
from engines.spec import INPUT

PERCENTILE = 99.999  # of a tensor's values on each side that its range holds
BINS = 2048  # of the histograms; the library's 128 are coarser than the percentile
LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
QUANTISED = ("Conv", "Add", "Resize")
TOWER = "/towers."  # in the names of a detection head's layers: boxes and points feel their rounding most
JOINED = "Relu"  # becomes part of what stands before it, where that is quantised
QUIET = 3  # errors only; they reach the user as exceptions

Form = Literal["cpu", "tensorrt"]
ACTIVATIONS: Final = {"cpu": QuantType.QUInt8, "tensorrt": QuantType.QInt8}
OPTIONS: Final[dict[Form, dict[str, object]]] = {
    "cpu": {},
    "tensorrt": {"ActivationSymmetric": True, "AddQDQPairToWeight": True, "QuantizeBias": False},
}

Signals = dict[str, Double]


class Quantiser:
    """An entry's f32 file with the ranges that its tensors take on real pictures; writes int8 forms of it.

    A head's output is a layer that no further layer reads. It stays in float, with all that follows it, and so do the
    towers of the detection heads. In the n network these are an eighth of the multiply-accumulates; with them in int8,
    boxes lost 1.5 to 2.5 % of their average precision however many layers of the trunk were in float.
    """

    def __init__(self, file: Path, batches: Iterable[Pictures], form: Form = "cpu") -> None:
        """Calibrate on ``batches`` of pictures, as the network gets them, for what will run the int8 ``form``.

        Raises:
            ModelError: the file is no ONNX network, or has no layer that could be int8.
        """
        try:
            self._network = onnx.shape_inference.infer_shapes(onnx.load(file))
        except Exception as error:  # protobuf's own, which share no other base
            raise ModelError(f"{file}: is not an ONNX network: {one_line(error)}") from error
        self._body, self._heads = _body_and_heads(self._network.graph)
        nodes = [node for node in self._network.graph.node if node.name in self._body]
        self.layers: tuple[str, ...] = tuple(node.name for node in nodes if node.op_type != JOINED)
        if not self.layers:
            raise ModelError(f"{file}: has no convolution before its heads' outputs that could be int8")
        self._ranges = _ranges(file, batches)
        self.form: Form = form

    def write(self, out: Path, in_float: Collection[str] = ()) -> None:
        """Write the int8 form, with those of :attr:`layers` that are named ``in_float`` left as they are."""
        onnx.save(self._quantised(self._body.difference(in_float)), out)

    def errors(self, batch: Pictures) -> Iterator[tuple[str, dict[str, float]]]:
        """What each layer costs: with it alone in int8, the noise of the heads by the signal they had in f32.

        Yields:
            A layer, and its error by output of the entry: squared differences over squared values, both summed over
            all head outputs that the entry's output is made from. Errors of layers nearly add up.
        """
        reference = self._signals(self._network, batch)
        for layer in self.layers:
            alone = self._quantised(self._body.difference(self.layers) | {layer})
            yield layer, self._errors(reference, self._signals(alone, batch))

    def _quantised(self, nodes: Collection[str]) -> onnx.ModelProto:
        network = onnx.ModelProto()
        network.CopyFrom(self._network)  # the library changes what it gets
        # Named one by one: nodes of these kinds stand in the decoding, too.
        quantiser = QDQQuantizer(
            network,
            per_channel=True,
            reduce_range=self.form == "cpu",  # 7 bits
            weight_qType=QuantType.QInt8,
            activation_qType=ACTIVATIONS[self.form],
            tensors_range=self._ranges,
            nodes_to_quantize=sorted(nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=[*QUANTISED, JOINED],
            extra_options=dict(OPTIONS[self.form]),
        )
        quantiser.quantize_model()
        quantiser.model.topological_sort()
        made: onnx.ModelProto = quantiser.model.model
        return made

    def _signals(self, network: onnx.ModelProto, batch: Pictures) -> Signals:
        """What the heads' output layers say, before anything is decoded."""
        watched = onnx.ModelProto()
        watched.CopyFrom(network)
        del watched.graph.output[:]
        watched.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self._heads
        )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        options.intra_op_num_threads = usable_cores()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # each session runs once
        session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
        values = session.run(list(self._heads), {INPUT: batch})
        return {name: np.asarray(value, np.float64) for name, value in zip(self._heads, values, strict=True)}

    def _errors(self, reference: Signals, found: Signals) -> dict[str, float]:
        errors = {}
        for output in sorted(set().union(*self._heads.values())):
            heads = [name for name, outputs in self._heads.items() if output in outputs]
            noise = sum(float(((found[name] - reference[name]) ** 2).sum()) for name in heads)
            signal = sum(float((reference[name] ** 2).sum()) for name in heads)
            errors[output] = noise / signal if signal else noise
        return errors


class _Batch(CalibrationDataReader):  # type: ignore[misc]  # its package is published without types
    """One batch for the calibrator, which holds every activation of what it reads at once."""

    def __init__(self, batch: Pictures) -> None:
        self._batches = iter([{INPUT: batch}])

    def get_next(self) -> dict[str, Pictures] | None:
        return next(self._batches, None)


def _ranges(file: Path, batches: Iterable[Pictures]) -> object:
    """Of every tensor that may be quantised: the library's own structure."""
    with tempfile.TemporaryDirectory() as folder:
        calibrator = create_calibrator(
            file,
            [*QUANTISED, JOINED],
            str(Path(folder) / "calibrated.onnx"),
            CalibrationMethod.Percentile,
            extra_options={"percentile": PERCENTILE, "num_bins": BINS},
        )
        for batch in batches:
            with contextlib.redirect_stdout(io.StringIO()):  # the library prints
                calibrator.collect_data(_Batch(batch))
        with contextlib.redirect_stdout(io.StringIO()):
            return calibrator.compute_data()


def _body_and_heads(graph: onnx.GraphProto) -> tuple[frozenset[str], dict[str, frozenset[str]]]:
    """The nodes that may be quantised; and the heads' output tensors, each with the graph's outputs made from it."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in filter(None, node.input):  # an optional input that is not given has no name
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    followed: dict[str, bool] = {}  # node -> whether a layer comes after it
    reached: dict[str, frozenset[str]] = {}  # node -> the graph's outputs that depend on it
    for node in reversed(graph.node):  # ONNX sorts its nodes: what reads stands after what it reads
        after = [reader for name in node.output for reader in readers.get(name, ())]
        followed[node.name] = any(reader.op_type in LAYERS or followed[reader.name] for reader in after)
        reached[node.name] = frozenset(outputs.intersection(node.output)).union(*(reached[each.name] for each in after))
    body = [
        node.name
        for node in graph.node
        if node.op_type in (*QUANTISED, JOINED) and followed[node.name] and TOWER not in node.name
    ]
    heads = [node for node in graph.node if node.op_type in LAYERS and not followed[node.name]]
    return frozenset(body), {node.output[0]: reached[node.name] for node in heads}
