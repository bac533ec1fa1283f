"""OpenVINO on the CPU: the engine that ``auto`` takes where there is no NVIDIA GPU."""

from collections import deque
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import openvino

from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.hardware import usable_cores
from engines.spec import INPUT, EntryName, Model, Precision

DEVICE: Final = "CPU"
# Pictures of a request: the network is compiled for each of these. With a batch that is left open OpenVINO fuses less,
# which costs a sixth; twos and eights would gain less than a tenth over these.
ONE: Final = 1
SEVERAL: Final = 4
MOST_STREAMS: Final = 16  # each has memory of its own; with more cores than that, several share a stream


class OpenVinoEngine:
    """An entry's ONNX file compiled by OpenVINO, for any batch size.

    A request runs on one core, as many of them at a time as there are cores, and a batch is cut into requests. Cores
    that share a request wait for each other in every layer, all the longer where one of them is decoding.
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
        # What an int8 file leaves in float runs as with auto: in f32 it would cost what int8 wins where bf16 is fast.
        hint = "auto" if precision == "int8" else precision
        try:
            core = openvino.Core()
            network = core.read_model(str(file))
        except RuntimeError as error:
            raise ModelError(f"model {model.path}: {self._file} cannot be loaded: {one_line(error)}") from error
        inputs = {port.get_any_name(): port.get_element_type().get_type_name() for port in network.inputs}
        if inputs != {INPUT: "u8"}:
            raise ModelError(f"model {model.path}: {self._file} must take one input {INPUT!r} of u8, it takes {inputs}")
        try:
            one, several = (_compiled(core, network, size, hint) for size in (ONE, SEVERAL))
        except RuntimeError as error:
            raise ModelError(f"model {model.path}: {self._file} cannot be loaded: {one_line(error)}") from error
        found = one.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if hint not in ("auto", found):  # a hint that the CPU cannot follow is changed in silence
            raise BackendUnavailable(
                f"backend 'openvino' has no precision {hint!r} on this CPU, it would run {found!r}"
            )
        self.precision: str = precision if precision == "int8" else found
        self._streams: int = one.get_property("NUM_STREAMS")
        self.depth = max(2, self._streams)  # small batches need a stream each; and one is at hand when another ends
        # Named as in the file: where compiling joins nodes, an output takes on the names of all of them.
        self._names: list[str] = [port.get_any_name() for port in network.outputs]
        self._graphs: tuple[_Graph, _Graph] | None = (_Graph(one), _Graph(several))
        self._busy: set[_Request] = set()

    def start(self, batch: npt.NDArray[np.uint8]) -> "OpenVinoRun":
        """Begin to run uint8 RGB pictures (N, H, W, 3), which must not change before their outputs were returned.

        Raises:
            EngineError: the batch is not good, OpenVINO does not take it, or the engine is closed.
        """
        if self._graphs is None:
            raise EngineError("the engine is closed")
        self.spec.check(batch)
        pictures = np.require(batch, requirements=("C_CONTIGUOUS", "WRITEABLE"))  # OpenVINO shares no other memory
        one, several = self._graphs
        # Single pictures where each finds an idle core, as that is soonest; else several, as that is the least work.
        fours = 0 if len(batch) <= self._streams - len(self._busy) else len(batch) // SEVERAL * SEVERAL
        run = OpenVinoRun(self._file, self._names, self._busy)
        try:
            for first in range(0, fours, SEVERAL):
                run.add(several, pictures[first : first + SEVERAL])
            for row in range(fours, len(batch)):
                run.add(one, pictures[row : row + 1])
        except RuntimeError as error:
            run.wait()
            raise EngineError(f"{self._file} failed in OpenVINO: {one_line(error)}") from error
        return run

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """Run uint8 RGB pictures (N, H, W, 3); EngineError where the batch or the run is not good."""
        return self.start(batch).outputs()

    def close(self) -> None:
        """Free the compiled network, once batches under way are done with it; may be called twice."""
        self._graphs = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class OpenVinoRun:
    """A batch under way: its requests, in the order of its pictures."""

    def __init__(self, file: str, names: list[str], busy: set["_Request"]) -> None:
        self._file, self._names, self._busy = file, names, busy
        self._requests: list[_Request] = []

    def add(self, graph: "_Graph", pictures: npt.NDArray[np.uint8]) -> None:
        """Start a request for the next pictures."""
        request = _Request(graph, pictures)
        self._busy.add(request)
        self._requests.append(request)

    def outputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """Wait for the batch and return the entry's outputs, batch first; to be called once.

        Raises:
            EngineError: the run failed.
        """
        requests = self._requests
        if not requests:
            raise EngineError("the outputs of this batch were taken already")
        failure = self.wait()
        if failure is not None:  # its requests are not used again
            raise EngineError(f"{self._file} failed in OpenVINO: {one_line(failure)}") from failure
        columns = zip(*(request.outputs() for request in requests), strict=True)
        outputs = {name: np.concatenate(column) for name, column in zip(self._names, columns, strict=True)}
        for request in requests:  # their memory may be written over from here on
            request.graph.idle.append(request.running)
        return outputs

    def wait(self) -> RuntimeError | None:
        """Wait until nothing reads the batch any more, also where a part of it fails; returns why one failed."""
        requests, self._requests = self._requests, []
        failure = None
        for request in requests:
            try:
                request.running.wait()
            except RuntimeError as error:
                failure = error
            self._busy.discard(request)
        return failure

    def __del__(self) -> None:
        self.wait()  # nobody asked for the outputs, and its requests still read the batch


class _Graph:
    """The network compiled for one batch size, and its requests that are idle."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.idle: deque[Any] = deque()


class _Request:
    """An inference request under way, and the pictures that it reads where they lie."""

    def __init__(self, graph: _Graph, pictures: npt.NDArray[np.uint8]) -> None:
        self.graph, self._pictures = graph, pictures
        self.running = graph.idle.popleft() if graph.idle else graph.compiled.create_infer_request()
        self.running.set_input_tensor(openvino.Tensor(pictures, shared_memory=True))
        self.running.start_async()

    def outputs(self) -> list[npt.NDArray[np.generic]]:
        """Views of the request's own memory, once it is done."""
        return [tensor.data for tensor in self.running.output_tensors]


def _compiled(core: Any, network: Any, batch: int, precision: str) -> Any:
    """The network compiled for batches of this size."""
    cores = usable_cores()
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": min(cores, MOST_STREAMS),
        "INFERENCE_NUM_THREADS": cores,
        "ENABLE_CPU_PINNING": False,  # decoding shares the cores
    }
    if precision != "auto":
        options["INFERENCE_PRECISION_HINT"] = precision
    shape = network.input().partial_shape
    shape[0] = batch
    network.reshape(shape)
    return core.compile_model(network, DEVICE, options)
