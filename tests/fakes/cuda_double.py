"""The CUDA runtime as cuda-bindings offers it, acted out in this process: memory, streams, events, graphs.

Streams do nothing until somebody waits for them. So code that reads before it waits, or that changes what a copy still
has to read, gets wrong values here as it would on a GPU. Only names that cuda-bindings has are in :func:`module`; a
test compares them.
"""

import ctypes
import enum
import types
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidDevice = 101
    cudaErrorInvalidResourceHandle = 400
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


TEXTS = {
    cudaError_t.cudaErrorInsufficientDriver: b"CUDA driver version is insufficient for CUDA runtime version",
    cudaError_t.cudaErrorMemoryAllocation: b"out of memory",
    cudaError_t.cudaErrorIllegalAddress: b"an illegal memory access was encountered",
}
MIB = 2**20

Work = Callable[[], None]


class Failed(Exception):
    """Work on the GPU failed; what waits for it is told."""

    def __init__(self, code: cudaError_t) -> None:
        super().__init__(code.name)
        self.code = code


@dataclass
class Stream:
    """What a stream still has to do."""

    waiting: deque[Work] = field(default_factory=deque)
    captured: list[Work] | None = None
    spoilt: bool = False  # something that cannot be captured was

    def give(self, work: Work) -> None:
        if self.captured is not None:
            self.captured.append(work)
        else:
            self.waiting.append(work)

    def run(self, until: Callable[[], bool]) -> None:
        while self.waiting and not until():
            self.waiting.popleft()()


@dataclass
class Event:
    stream: Stream | None = None
    happened: bool = True
    flags: int = 0


@dataclass
class Properties:
    name: bytes = b"Made GPU"
    major: int = 9
    minor: int = 0


class Gpu:
    """One machine's GPUs, and all that was taken from them and not given back."""

    def __init__(self, count: int = 1, memory: int = 4096 * MIB, driver: bool = True) -> None:
        self.count = count
        self.memory = memory
        self.driver = driver
        self.device: dict[int, Any] = {}  # address -> its bytes
        self.host: dict[int, Any] = {}
        self.handles: dict[int, Any] = {}  # streams, events, graphs
        self.launched = 0  # graphs
        self.refuse_capture = False
        self.chosen: list[int] = []
        self._next = 1

    @property
    def used(self) -> int:
        """Bytes of the GPU's memory."""
        return sum(map(len, self.device.values()))

    @property
    def leaks(self) -> int:
        """How many things were not given back."""
        return len(self.device) + len(self.host) + len(self.handles)

    def take(self, thing: Any) -> int:
        handle, self._next = self._next, self._next + 1
        self.handles[handle] = thing
        return handle

    def stream(self, handle: int) -> Stream:
        return self.handles[int(handle)]

    def view(self, address: int, size: int, kinds: Sequence[dict[int, Any]]) -> Any:
        """Bytes of memory of the right kind; what lies outside of any is refused."""
        for memory in kinds:
            for start, held in memory.items():
                if start <= address and address + size <= start + len(held):
                    return (ctypes.c_char * size).from_address(address)
        raise Failed(cudaError_t.cudaErrorInvalidValue)


def module(gpu: Gpu) -> types.ModuleType:
    """``cuda.bindings.runtime`` for a machine."""
    runtime = types.ModuleType("cuda.bindings.runtime")
    for name, value in {**_constants(), **_device(gpu), **_memory(gpu), **_streams(gpu), **_graphs(gpu)}.items():
        if isinstance(value, types.FunctionType):
            value.__name__ = name
            value = _answering(value, gpu)
        setattr(runtime, name, value)
    return runtime


def _answering(function: Callable[..., Any], gpu: Gpu) -> Callable[..., Any]:
    """As the bindings do it: an error code first, then what was asked for, or None for each."""

    def call(*arguments: Any) -> tuple[Any, ...]:
        if not gpu.driver and function.__name__ not in ("cudaGetErrorString", "cudaDriverGetVersion"):
            return cudaError_t.cudaErrorInsufficientDriver, None
        try:
            value = function(*arguments)
        except Failed as error:
            return error.code, None
        except KeyError:
            return cudaError_t.cudaErrorInvalidResourceHandle, None
        values = value if isinstance(value, tuple) else () if value is None else (value,)
        return cudaError_t.cudaSuccess, *values

    call.__name__ = function.__name__
    return call


def _constants() -> dict[str, Any]:
    return {
        "cudaError_t": cudaError_t,
        "cudaMemcpyKind": cudaMemcpyKind,
        "cudaStreamCaptureMode": cudaStreamCaptureMode,
        "cudaHostAllocDefault": 0,
        "cudaStreamNonBlocking": 1,
        "cudaEventBlockingSync": 1,
        "cudaEventDisableTiming": 2,
    }


def _device(gpu: Gpu) -> dict[str, Any]:
    def check(index: int) -> None:
        if not 0 <= index < gpu.count:
            raise Failed(cudaError_t.cudaErrorInvalidDevice)

    def count() -> int:
        if not gpu.count:
            raise Failed(cudaError_t.cudaErrorNoDevice)
        return gpu.count

    def choose(index: int) -> None:
        check(index)
        gpu.chosen.append(index)

    def properties(index: int) -> Properties:
        check(index)
        return Properties()

    return {
        "cudaGetDeviceCount": count,
        "cudaSetDevice": choose,
        "cudaGetDeviceProperties": properties,
        "cudaDriverGetVersion": lambda: 13000 if gpu.driver else 0,
        "cudaRuntimeGetVersion": lambda: 13050,
        "cudaGetErrorString": lambda code: TEXTS.get(code, cudaError_t(code).name.encode()),
    }


def _memory(gpu: Gpu) -> dict[str, Any]:
    def take(memory: dict[int, Any], size: int) -> int:
        held = (ctypes.c_char * size)()
        memory[ctypes.addressof(held)] = held
        return ctypes.addressof(held)

    def malloc(size: int) -> int:
        if gpu.used + size > gpu.memory:
            raise Failed(cudaError_t.cudaErrorMemoryAllocation)
        return take(gpu.device, size)

    def copy(to: int, source: int, size: int, kind: cudaMemcpyKind, stream: int) -> None:
        up = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        into = gpu.view(to, size, [gpu.device if up else gpu.host])
        out = gpu.view(source, size, [gpu.host if up else gpu.device])
        gpu.stream(stream).give(lambda: ctypes.memmove(into, out, size) and None)

    return {
        "cudaMalloc": malloc,
        "cudaFree": lambda address: gpu.device.pop(address) and None,
        "cudaHostAlloc": lambda size, flags: take(gpu.host, size),
        "cudaFreeHost": lambda address: gpu.host.pop(address) and None,
        "cudaMemGetInfo": lambda: (gpu.memory - gpu.used, gpu.memory),
        "cudaMemcpyAsync": copy,
    }


def _streams(gpu: Gpu) -> dict[str, Any]:
    def record(handle: int, stream: int) -> None:
        event, into = gpu.handles[handle], gpu.stream(stream)
        event.stream, event.happened = into, False
        into.give(lambda: setattr(event, "happened", True))

    def wait(handle: int) -> None:
        event = gpu.handles[handle]
        if event.stream is not None:
            event.stream.run(until=lambda: event.happened)

    def close(handle: int) -> None:
        del gpu.handles[handle]

    return {
        "cudaStreamCreateWithFlags": lambda flags: gpu.take(Stream()),
        "cudaStreamDestroy": close,
        "cudaStreamSynchronize": lambda stream: gpu.stream(stream).run(until=lambda: False),
        "cudaEventCreateWithFlags": lambda flags: gpu.take(Event(flags=flags)),
        "cudaEventRecord": record,
        "cudaEventSynchronize": wait,
        "cudaEventDestroy": close,
    }


def _graphs(gpu: Gpu) -> dict[str, Any]:
    def begin(stream: int, mode: cudaStreamCaptureMode) -> None:
        gpu.stream(stream).captured = []
        gpu.stream(stream).spoilt = gpu.refuse_capture

    def end(handle: int) -> int:
        stream = gpu.stream(handle)
        captured, stream.captured = stream.captured, None
        if captured is None or stream.spoilt:
            raise Failed(cudaError_t.cudaErrorStreamCaptureInvalidated)
        return gpu.take(captured)

    def launch(graph: int, stream: int) -> None:
        gpu.launched += 1
        for work in gpu.handles[graph]:
            gpu.stream(stream).give(work)

    def close(handle: int) -> None:
        del gpu.handles[handle]

    return {
        "cudaStreamBeginCapture": begin,
        "cudaStreamEndCapture": end,
        "cudaGraphInstantiate": lambda graph, flags: gpu.take(list(gpu.handles[graph])),
        "cudaGraphDestroy": close,
        "cudaGraphExecDestroy": close,
        "cudaGraphLaunch": launch,
    }
