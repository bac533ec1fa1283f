"""OpenVINO on the CPU: the engine that ``auto`` takes where there is no NVIDIA GPU."""

import time
from collections import deque
from typing import Any, Final

import numpy as np

from engines.arrays import Array, Pictures
from engines.backends.base import StartedEngine
from engines.backends.untold_openvino import openvino
from engines.cpu_load import CpuLoad
from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.hardware import usable_cores
from engines.spec import INPUT, EntryName, Model, Precision

DEVICE: Final = "CPU"
# Pictures of a request: the network is compiled for each of these. With a batch that is left open OpenVINO fuses less,
# which costs a sixth. Where decoding empties the caches in between, a picture in a two costs an eighth less than alone,
# in a four a fifth, and in an eight hardly any less than that.
SIZES: Final = (4, 2, 1)
MAX_STREAMS: Final = 16  # each has memory of its own; with more cores than that, several share a stream


class OpenVinoEngine(StartedEngine):
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
            shape = self.spec.height, self.spec.width, 3
            compiled = {size: _compiled(core, network, (size, *shape), hint) for size in SIZES}
        except RuntimeError as error:
            raise ModelError(f"model {model.path}: {self._file} cannot be loaded: {one_line(error)}") from error
        found = compiled[1].get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if hint not in ("auto", found):  # a hint that the CPU cannot follow is changed in silence
            raise BackendUnavailable(
                f"backend 'openvino' has no precision {hint!r} on this CPU, it would run {found!r}"
            )
        self.precision: str = precision if precision == "int8" else found
        self._streams: int = compiled[1].get_property("NUM_STREAMS")
        self.depth = max(2, self._streams)  # small batches need a stream each; and one is at hand when another ends
        # Named as in the file: where compiling joins nodes, an output takes on the names of all of them.
        self._names: list[str] = [port.get_any_name() for port in network.outputs]
        self._graphs: dict[int, _Graph] | None = {size: _Graph(compiled[size]) for size in SIZES}
        self._cpu_load = CpuLoad()
        self._busy: set[_Request] = set()

    def start(self, batch: Pictures) -> "OpenVinoRun":
        """Begin to run uint8 RGB pictures (N, H, W, 3), which must not change before their outputs were returned.

        Raises:
            EngineError: the batch is not good, OpenVINO does not take it, or the engine is closed.
        """
        if self._graphs is None:
            raise EngineError("the engine is closed")
        self.spec.check(batch)
        # OpenVINO shares no other memory.
        pictures = batch if batch.flags.carray else np.require(batch, requirements=("C_CONTIGUOUS", "WRITEABLE"))
        run = OpenVinoRun(self._file, self._names, self._busy)
        try:
            first = 0
            for size in self._cut(len(batch)):
                run.add(self._graphs[size], pictures[first : first + size])
                first += size
        except RuntimeError as error:
            run.wait()
            raise EngineError(f"{self._file} failed in OpenVINO: {one_line(error)}") from error
        return run

    def _cut(self, pictures: int) -> list[int]:
        """Return the sizes of the requests of a batch: single pictures where each finds an idle core, which is fastest.

        Else of as many as there are, as that is the least work.
        """
        idle = min(self._streams - len(self._busy), self._cpu_load.idle_cores(time.monotonic_ns()))
        if pictures <= idle:
            return [1] * pictures
        cut: list[int] = []
        for size in SIZES:
            count, pictures = divmod(pictures, size)
            cut += [size] * count
        return cut

    def close(self) -> None:
        """Free the compiled network, once batches under way are done with it; may be called twice."""
        self._graphs = None


class OpenVinoRun:
    """A batch under way: its requests, in the order of its pictures."""

    def __init__(self, file: str, names: list[str], busy: set["_Request"]) -> None:
        self._file, self._names, self._busy = file, names, busy
        self._requests: list[_Request] = []

    def add(self, graph: "_Graph", pictures: Pictures) -> None:
        """Start a request for the next pictures."""
        request = _Request(graph, pictures)
        self._busy.add(request)
        self._requests.append(request)

    def outputs(self) -> dict[str, Array]:
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
        outputs = _joined([request.slot.outputs() for request in requests])
        for request in requests:  # their memory may be written over from here on
            request.graph.idle.append(request.slot)
        return dict(zip(self._names, outputs, strict=True))

    def wait(self) -> RuntimeError | None:
        """Wait until nothing reads the batch any more, also where a part of it fails; returns why one failed."""
        requests, self._requests = self._requests, []
        failure = None
        for request in requests:
            try:
                request.slot.running.wait()
            except RuntimeError as error:
                failure = error
            self._busy.discard(request)
        return failure

    def __del__(self) -> None:
        self.wait()  # nobody asked for the outputs, and its requests still read the batch


class _Graph:
    """The network compiled for one batch size, and what is idle of the memory to run it in."""

    def __init__(self, compiled: Any) -> None:
        self.compiled = compiled
        self.ports = compiled.outputs
        self.idle: deque[_Slot] = deque()


class _Slot:
    """OpenVINO's own request, and views of where it leaves its outputs.

    Where shapes are known before, that memory is always the same. To ask for it takes longer than anything else that
    this process has to do for a batch: by port half as long as by number or for all at once.
    """

    def __init__(self, graph: _Graph) -> None:
        self.running = graph.compiled.create_infer_request()
        self._ports = graph.ports
        self._views = self._ask() if all(port.partial_shape.is_static for port in self._ports) else None

    def outputs(self) -> list[Array]:
        """Return the outputs of the last run, valid until the next."""
        return self._ask() if self._views is None else self._views

    def _ask(self) -> list[Array]:
        return [self.running.get_tensor(port).data for port in self._ports]


class _Request:
    """An inference request under way, and the pictures that it reads where they lie."""

    def __init__(self, graph: _Graph, pictures: Pictures) -> None:
        self.graph, self._pictures = graph, pictures
        self.slot = graph.idle.popleft() if graph.idle else _Slot(graph)
        self.slot.running.set_input_tensor(openvino.Tensor(pictures, shared_memory=True))
        self.slot.running.start_async()


def _joined(parts: list[list[Array]]) -> list[Array]:
    """Copy the outputs of requests, those of one after those of the other."""
    if len(parts) == 1:
        return [array.copy() for array in parts[0]]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _compiled(core: Any, network: Any, shape: tuple[int, ...], precision: str) -> Any:
    """Compile the network for batches of this shape; a height and width that the file has itself stay."""
    cores = usable_cores()
    options: dict[str, Any] = {
        "PERFORMANCE_HINT": "THROUGHPUT",
        "NUM_STREAMS": min(cores, MAX_STREAMS),
        "INFERENCE_NUM_THREADS": cores,
        "ENABLE_CPU_PINNING": False,  # decoding shares the cores
    }
    if precision != "auto":
        options["INFERENCE_PRECISION_HINT"] = precision
    free = network.input().partial_shape
    for axis, side in enumerate(shape):
        if axis == 0 or free[axis].is_dynamic:
            free[axis] = side
    network.reshape(free)
    return core.compile_model(network, DEVICE, options)
