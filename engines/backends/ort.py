"""ONNX Runtime on the CPU: the portable engine."""

from typing import Self

import numpy as np
import numpy.typing as npt
import onnxruntime

from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.hardware import usable_cores
from engines.spec import INPUT, EntryName, Model, Precision

QUIET = 3  # errors only; they reach the user as exceptions


class OnnxRuntimeEngine:
    """An entry's ONNX file in ONNX Runtime's CPU provider, in the precision of the file: f32 or int8."""

    def __init__(self, model: Model, entry: EntryName, precision: Precision = "auto") -> None:
        """Load the entry.

        Raises:
            BackendUnavailable: another precision than ``auto`` (f32), ``f32`` or ``int8``.
            ModelError: the file is not there, cannot be loaded or takes something else than pictures.
        """
        if precision not in ("auto", "f32", "int8"):
            raise BackendUnavailable(f"backend 'onnxruntime' has precision 'f32' or 'int8', not {precision!r}")
        self.spec = model.spec.entry(entry)
        self.backend = "onnxruntime"
        self.precision = "int8" if precision == "int8" else "f32"
        file = model.file(entry, precision)
        self._file = file.name
        self.device = "CPU"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        # By default it takes every core and pins its threads to them, in the way of decoding and of other processes.
        options.intra_op_num_threads = usable_cores()
        try:
            session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it raises a dozen types of its own that share only this base
            raise ModelError(f"model {model.path}: {self._file} cannot be loaded: {one_line(error)}") from error
        self._session: onnxruntime.InferenceSession | None = session
        self._outputs = [output.name for output in session.get_outputs()]
        inputs = {node.name: node.type for node in session.get_inputs()}
        if inputs != {INPUT: "tensor(uint8)"}:
            raise ModelError(
                f"model {model.path}: {self._file} must take one input {INPUT!r} of uint8, it takes {inputs}"
            )

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """Run uint8 RGB pictures (N, H, W, 3); EngineError where the batch or the run is not good."""
        if self._session is None:
            raise EngineError("the engine is closed")
        self.spec.check(batch)
        try:
            values = self._session.run(None, {INPUT: np.ascontiguousarray(batch)})
        except Exception as error:  # as above
            raise EngineError(f"{self._file} failed in ONNX Runtime: {one_line(error)}") from error
        return dict(zip(self._outputs, map(np.asarray, values), strict=True))

    def close(self) -> None:
        """Free the session; may be called twice."""
        self._session = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
