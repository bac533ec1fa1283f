"""OpenVINO on the CPU: the engine that ``auto`` takes where there is no NVIDIA GPU."""

from typing import Self

import numpy as np
import numpy.typing as npt
import openvino

from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.spec import INPUT, EntryName, Model, Precision

DEVICE = "CPU"


class OpenVinoEngine:
    """An entry's ONNX file compiled by OpenVINO, for any batch size.

    One request at a time uses all cores: with the throughput hint each of several parallel requests gets one core,
    and a single one ran at half the speed. Compiling for each batch size apart gained nothing over a dynamic one.
    """

    def __init__(self, model: Model, entry: EntryName, precision: Precision = "auto") -> None:
        """Compile the entry; ``auto`` is bf16 on CPUs that multiply it, else f32, and so is what int8 leaves in float.

        Raises:
            BackendUnavailable: the CPU does not have the precision.
            ModelError: the file is not there, cannot be loaded or takes something else than pictures.
        """
        self.spec = model.spec.entry(entry)
        self.backend = "openvino"
        self.device = DEVICE
        file = model.file(entry, precision)
        self._file = file.name
        options = {"PERFORMANCE_HINT": "LATENCY"}
        # What an int8 file leaves in float runs as with auto: in f32 it would cost what int8 wins where bf16 is fast.
        hint = "auto" if precision == "int8" else precision
        if hint != "auto":
            options["INFERENCE_PRECISION_HINT"] = hint
        try:
            core = openvino.Core()
            network = core.read_model(str(file))
            compiled = core.compile_model(network, DEVICE, options)
        except RuntimeError as error:
            raise ModelError(f"model {model.path}: {self._file} cannot be loaded: {one_line(error)}") from error
        inputs = {port.get_any_name(): port.get_element_type().get_type_name() for port in network.inputs}
        if inputs != {INPUT: "u8"}:
            raise ModelError(f"model {model.path}: {self._file} must take one input {INPUT!r} of u8, it takes {inputs}")
        found = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if hint not in ("auto", found):  # a hint that the CPU cannot follow is changed in silence
            raise BackendUnavailable(
                f"backend 'openvino' has no precision {hint!r} on this CPU, it would run {found!r}"
            )
        self.precision: str = precision if precision == "int8" else found
        # Named as in the file: where compiling joins nodes, an output takes on the names of all of them.
        self._outputs: list[str] = [port.get_any_name() for port in network.outputs]
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """Run uint8 RGB pictures (N, H, W, 3); EngineError where the batch or the run is not good."""
        if self._request is None:
            raise EngineError("the engine is closed")
        self.spec.check(batch)
        try:
            # Outputs are copied, the default: the request writes over its own at the next call.
            values = self._request.infer({INPUT: np.ascontiguousarray(batch)}, share_inputs=True)
        except RuntimeError as error:
            raise EngineError(f"{self._file} failed in OpenVINO: {one_line(error)}") from error
        return {name: np.asarray(values[index]) for index, name in enumerate(self._outputs)}

    def close(self) -> None:
        """Free the compiled network; may be called twice."""
        self._request = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
