"""Memory, streams, events and graphs of the CUDA runtime, each of which gives back what it holds.

Through NVIDIA's own bindings (``cuda-bindings``), a few megabytes, so that a machine that serves needs no PyTorch. They
publish no types: everything that comes from them is turned into int, bytes or an array here, and nowhere else.
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from cuda.bindings import runtime

from engines.arrays import Bytes
from engines.errors import BackendUnavailable, EngineError

MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU as CUDA describes it."""

    index: int
    name: str
    capability: str  # of its instructions, such as "9.0"


class CudaError(EngineError):
    """A call of the CUDA runtime failed."""

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"CUDA failed in {call}: {text} (error {code})")
        self.code = code


def open_device(index: int) -> Device:
    """Make a GPU the one that this thread uses.

    Raises:
        BackendUnavailable: there is no GPU of this index, or no driver that runs it.
    """
    try:
        count = int(_call(runtime.cudaGetDeviceCount))
    except CudaError as error:
        raise BackendUnavailable(f"no GPU can be used: {error}") from error
    if not 0 <= index < count:
        raise BackendUnavailable(f"gpu is {index}, but this machine has {count}, counted from 0")
    use_device(index)
    found = _call(runtime.cudaGetDeviceProperties, index)
    name = found.name if isinstance(found.name, str) else bytes(found.name).rstrip(b"\0").decode()
    return Device(index, name, f"{found.major}.{found.minor}")


def use_device(index: int) -> None:
    """Make a GPU the one that this thread uses: CUDA keeps the choice for each thread apart."""
    _call(runtime.cudaSetDevice, index)


def versions() -> tuple[str, str]:
    """Return the newest CUDA version that the driver supports, and that of the runtime; "0.0" without a driver."""
    found = (int(_call(call)) for call in (runtime.cudaDriverGetVersion, runtime.cudaRuntimeGetVersion))
    driver, library = (f"{number // 1000}.{number % 1000 // 10}" for number in found)
    return driver, library


class _Owned:
    """A resource of CUDA, released once."""

    def __init__(self, handle: Any, give_back: Any) -> None:
        self.handle = handle
        self._give_back = give_back

    def close(self) -> None:
        """Give it back; may be called twice."""
        if self.handle is not None:
            handle, self.handle = self.handle, None
            _call(self._give_back, handle)


class DeviceMemory(_Owned):
    """Bytes on the GPU."""

    def __init__(self, size: int, what: str) -> None:
        """Allocate; EngineError that says for ``what`` where there is no room."""
        try:
            self.address = int(_call(runtime.cudaMalloc, max(size, 1)))
        except CudaError as error:
            if error.code != int(runtime.cudaError_t.cudaErrorMemoryAllocation):
                raise
            raise EngineError(f"the GPU has no {size / MIB:.0f} MiB left for {what}: {_room()}") from error
        super().__init__(self.address, runtime.cudaFree)
        self.size = size


class PinnedMemory(_Owned):
    """Bytes of this machine that stay where they are, so that copies to and from the GPU run beside everything else."""

    def __init__(self, size: int) -> None:
        self.address = int(_call(runtime.cudaHostAlloc, max(size, 1), runtime.cudaHostAllocDefault))
        super().__init__(self.address, runtime.cudaFreeHost)
        self.array: Bytes = np.ctypeslib.as_array((ctypes.c_uint8 * max(size, 1)).from_address(self.address))

    def close(self) -> None:
        """Give it back; may be called twice. :attr:`array` is empty then."""
        self.array = np.zeros(0, np.uint8)
        super().close()


class CudaEvent(_Owned):
    """A moment in a stream that a thread can sleep until."""

    def __init__(self) -> None:
        # Without blocking sync a waiting thread spins, on a core that the decoders need.
        flags = runtime.cudaEventBlockingSync | runtime.cudaEventDisableTiming
        super().__init__(_call(runtime.cudaEventCreateWithFlags, flags), runtime.cudaEventDestroy)

    def wait(self) -> None:
        """Sleep until it happened; CudaError if what was before it failed."""
        _call(runtime.cudaEventSynchronize, self.handle)


class Graph(_Owned):
    """What :meth:`Stream.capture` kept: many calls that are launched as one."""

    def __init__(self) -> None:
        super().__init__(None, runtime.cudaGraphExecDestroy)


class Stream(_Owned):
    """Work that the GPU does in order, beside other streams."""

    def __init__(self) -> None:
        created = _call(runtime.cudaStreamCreateWithFlags, runtime.cudaStreamNonBlocking)
        super().__init__(created, runtime.cudaStreamDestroy)

    @property
    def number(self) -> int:
        """Return the address of the stream, for other libraries."""
        return int(self.handle)

    def upload(self, device: DeviceMemory, host: PinnedMemory, size: int) -> None:
        """Copy the first ``size`` bytes to the GPU, in the stream's turn: ``host`` must not change before."""
        self._copy(device.address, host.address, size, runtime.cudaMemcpyKind.cudaMemcpyHostToDevice)

    def download(self, host: PinnedMemory, device: DeviceMemory, size: int) -> None:
        """Copy the first ``size`` bytes from the GPU, in the stream's turn."""
        self._copy(host.address, device.address, size, runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost)

    def _copy(self, to: int, source: int, size: int, kind: Any) -> None:
        _call(runtime.cudaMemcpyAsync, to, source, size, kind, self.handle)

    def launch(self, graph: Graph) -> None:
        """Run a captured graph, in the stream's turn."""
        _call(runtime.cudaGraphLaunch, graph.handle, self.handle)

    def record(self, event: CudaEvent) -> None:
        """Signal the event when all that is in the stream so far is done."""
        _call(runtime.cudaEventRecord, event.handle, self.handle)

    @contextmanager
    def capture(self) -> Iterator[Graph]:
        """Record the work of the block in a graph instead of running it; the graph is complete when the block ends.

        Raises:
            CudaError: something in the block cannot be captured.
        """
        graph = Graph()
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads go on as they like
        _call(runtime.cudaStreamBeginCapture, self.handle, mode)
        try:
            yield graph
        except BaseException:
            runtime.cudaStreamEndCapture(self.handle)  # says once more that it failed
            raise
        captured = _call(runtime.cudaStreamEndCapture, self.handle)
        try:
            graph.handle = _call(runtime.cudaGraphInstantiate, captured, 0)
        finally:
            _call(runtime.cudaGraphDestroy, captured)

    def synchronise(self) -> None:
        """Wait until all that the stream was given is done."""
        _call(runtime.cudaStreamSynchronize, self.handle)


def _call(function: Any, *arguments: Any) -> Any:
    """Call the runtime and return what comes after its error code; CudaError unless that is success."""
    code, *values = function(*arguments)
    if int(code):
        _, text = runtime.cudaGetErrorString(code)
        raise CudaError(function.__name__, int(code), text.decode() if isinstance(text, bytes) else str(text))
    return values[0] if len(values) == 1 else values


def _room() -> str:
    free, total = _call(runtime.cudaMemGetInfo)
    return f"{free / MIB:.0f} of its {total / MIB:.0f} MiB are free"
