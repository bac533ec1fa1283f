"""The stream, memory and CUDA graphs of one batch under way in a TensorRT engine."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
import structlog
import tensorrt as trt

from engines.arrays import Array, Pictures
from engines.backends.cuda import CudaError, CudaEvent, DeviceMemory, Graph, PinnedMemory, Stream
from engines.backends.trt_log import Log
from engines.errors import BackendUnavailable, EngineError, one_line
from engines.planes import Planes

if TYPE_CHECKING:  # PyTorch, which a machine that serves does without
    from engines.backends.torch_letterbox import BorrowedLetterbox

log = structlog.get_logger()

Resource = TypeVar("Resource", Stream, CudaEvent, Graph, PinnedMemory, DeviceMemory)

GRAPHS: Final = 8  # batch sizes that get one: each holds an execution context


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of an engine."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int, ...]  # without the batch dimension
    size: int  # bytes, for one picture


@dataclass(frozen=True, slots=True)
class LoadedEngine:
    """An engine in TensorRT."""

    runtime: trt.Runtime  # must live as long as the engine
    engine: trt.ICudaEngine
    log: Log
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    most: int  # pictures in a batch


@dataclass(slots=True)
class Sized:
    """What runs batches of one size."""

    context: trt.IExecutionContext
    runs: int = 0
    graph: Graph | None = None


@dataclass(frozen=True, slots=True)
class Buffer:
    """A tensor's memory here and on the GPU, for the largest batch."""

    host: PinnedMemory
    device: DeviceMemory


class Slot:
    """A stream and the memory of one batch under way.

    A graph holds what TensorRT prepared for one batch size in an execution context, so each size has a context of its
    own. They share the memory for what lies between layers: one stream runs one of them at a time.
    """

    def __init__(self, loaded: LoadedEngine, file: str, gpu: int) -> None:
        """Take everything that the largest batch needs; EngineError where the GPU has not enough memory."""
        self._loaded = loaded
        self._file = file
        self._gpu = gpu
        self._count = 0  # of the batch under way
        self._held = ExitStack()  # of resources
        self._sized: dict[int, Sized] = {}
        self._letterbox: BorrowedLetterbox | None = None  # until decoded planes come
        try:
            self._stream = self._hold(Stream())
            self._done = self._hold(CudaEvent())
            self._between = self._device(loaded.engine.device_memory_size_v2, "activations")
            self._buffers = {each.name: self._buffer(each) for each in (*loaded.inputs, *loaded.outputs)}
            self._unsized: trt.IExecutionContext | None = self._new_context()
        except BaseException:
            self._release()
            raise

    def start(self, batch: Pictures) -> None:
        """Copy a batch, and begin to run it.

        Raises:
            EngineError: TensorRT or CUDA fails.
        """
        [source] = self._loaded.inputs
        buffer, size = self._buffers[source.name], len(batch) * source.size
        np.copyto(buffer.host.array[:size].reshape(batch.shape), batch)
        self._stream.upload(buffer.device, buffer.host, size)
        self._run(len(batch))

    def start_planes(self, pictures: Sequence[Planes]) -> None:
        """Letterbox decoded pictures into the input, on this slot's stream, and begin to run them.

        Raises:
            BackendUnavailable: there is no PyTorch for this GPU.
            EngineError: PyTorch, TensorRT or CUDA fails.
        """
        if self._letterbox is None:
            self._letterbox = _borrowed(self._gpu, self._stream)
        [source] = self._loaded.inputs
        self._letterbox.fill(pictures, self._buffers[source.name].device.address, (len(pictures), *source.shape))
        self._run(len(pictures))

    def _run(self, count: int) -> None:
        """Run the network on what the stream has written into the input before."""
        self._count = count
        sized = self._for(count)
        if sized is None:
            self._enqueue(self._shaped(self._unsized, count), count)
        elif sized.graph is not None:
            self._stream.launch(sized.graph)
        else:
            self._enqueue(sized.context, count)
            sized.runs += 1
        self._stream.record(self._done)

    def outputs(self) -> dict[str, Array]:
        """Wait for the batch and copy what it gave.

        Raises:
            EngineError: the run failed.
        """
        try:
            self._done.wait()
        except CudaError as error:
            raise EngineError(f"{self._file} failed in TensorRT: {error}; {self._loaded.log.failure()}") from error
        found: dict[str, Array] = {}
        for each in self._loaded.outputs:
            values = self._buffers[each.name].host.array[: self._count * each.size].view(each.dtype)
            found[each.name] = values.reshape(self._count, *each.shape).copy()
        return found

    def close(self) -> None:
        """Wait for what is under way and free everything; may be called twice."""
        if self._stream.handle is not None:
            with suppress(CudaError):
                self._stream.synchronise()
        self._sized.clear()
        self._letterbox = self._unsized = None
        self._release()

    def _for(self, count: int) -> Sized | None:
        """Return what runs batches of this size, with a graph from the second on; None when enough others have that.

        The first one runs without: TensorRT does some work only once for a shape, and that must not be in a graph.
        """
        if count not in self._sized:
            if len(self._sized) >= GRAPHS:
                return None
            self._sized[count] = Sized(self._shaped(self._new_context(), count))
        sized = self._sized[count]
        if sized.runs == 1:
            sized.graph = self._captured(sized.context, count)
            sized.runs += 1
        return sized

    def _captured(self, context: trt.IExecutionContext, count: int) -> Graph | None:
        try:
            with self._stream.capture() as graph:
                self._enqueue(context, count)
            return self._hold(graph)
        except EngineError as error:
            log.info("batches of this size run without a CUDA graph", file=self._file, batch=count, why=str(error))
            return None

    def _enqueue(self, context: trt.IExecutionContext, count: int) -> None:
        """Give the stream the network and the copies of what it gives; the input comes from more than one place."""
        if not context.execute_async_v3(self._stream.number):
            raise EngineError(f"{self._file} failed in TensorRT: {self._loaded.log.failure()}")
        for each in self._loaded.outputs:
            self._stream.download(self._buffers[each.name].host, self._buffers[each.name].device, count * each.size)

    def _shaped(self, context: trt.IExecutionContext | None, count: int) -> trt.IExecutionContext:
        assert context is not None, "a closed slot runs nothing"
        for each in self._loaded.inputs:
            if not context.set_input_shape(each.name, (count, *each.shape)):
                raise EngineError(f"{self._file} refuses a batch of {count}: {self._loaded.log.failure()}")
        return context

    def _new_context(self) -> trt.IExecutionContext:
        context = self._loaded.engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if context is None:
            raise EngineError(f"TensorRT cannot prepare to run {self._file}: {self._loaded.log.failure()}")
        context.set_device_memory(self._between.address, self._between.size)
        for name, buffer in self._buffers.items():
            context.set_tensor_address(name, buffer.device.address)
        return context

    def _buffer(self, tensor: Tensor) -> Buffer:
        size = tensor.size * self._loaded.most
        return Buffer(self._hold(PinnedMemory(size)), self._device(size, f"{self._loaded.most} times {tensor.name}"))

    def _device(self, size: int, what: str) -> DeviceMemory:
        return self._hold(DeviceMemory(size, f"{what} of {self._file}"))

    def _hold(self, resource: Resource) -> Resource:
        self._held.callback(resource.close)
        return resource

    def _release(self) -> None:
        with suppress(CudaError):  # after a failure CUDA may refuse: it frees everything with the process
            self._held.close()


def _borrowed(gpu: int, stream: Stream) -> "BorrowedLetterbox":
    # Imported here: a machine that serves needs no PyTorch unless it letterboxes on the GPU.
    try:
        from engines.backends.torch_letterbox import BorrowedLetterbox
    except (ImportError, OSError) as error:
        raise BackendUnavailable(
            f"letterboxing on the GPU needs PyTorch, which cannot be imported ({one_line(error)}); install it with: "
            "pip install torch"
        ) from error
    return BorrowedLetterbox(gpu, stream.number)
