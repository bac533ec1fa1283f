"""PyTorch on a GPU: what ``auto`` takes there when TensorRT is not installed; it needs nothing but PyTorch.

What was shown without a GPU: that batches, slots and graphs are kept apart and given back (a test acts out the device).
What only a GPU can show, and tests/gpu does: parity with the CPU, and speed.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import structlog
import torch

from engines.arrays import Array, Pictures
from engines.backends.torch_compile import Network, compile_now, compiled
from engines.backends.torch_letterbox import TorchLetterbox
from engines.backends.underway import SlotEngine
from engines.backends.weights import PRECISIONS, as_array, check_outputs, load_entry
from engines.errors import BackendUnavailable, EngineError, one_line
from engines.planes import Planes
from engines.spec import EntryName, EntrySpec, Model, Precision

log = structlog.get_logger()

GRAPHS: Final = 8  # batch sizes that get a CUDA graph: each holds its own tensors


class TorchCudaEngine(SlotEngine):
    """An entry run from ``weights.pt`` on a GPU, in channels-last layout, one CUDA graph for each batch size.

    Each batch under way has a slot of its own: a stream, pinned memory, and its graphs.
    """

    def __init__(
        self,
        model: Model,
        entry: EntryName,
        precision: Precision = "auto",
        *,
        gpu: int = 0,
        torch_compile: bool = False,
    ) -> None:
        """Build the network around its weights on the GPU; ``auto`` is bf16.

        Args:
            model: the model.
            entry: which way into the network.
            precision: f32, which is computed without TF32, bf16 or f16.
            gpu: index among those that CUDA shows to this process.
            torch_compile: let ``torch.compile`` make the kernels.

        Raises:
            BackendUnavailable: int8, there is no such GPU, or ``torch.compile`` fails.
            ModelError: the weights cannot be read or belong to another network.
        """
        super().__init__(model.spec.entry(entry))
        self.backend = "torch"
        self.precision: str = "bf16" if precision == "auto" else precision
        if self.precision not in PRECISIONS:
            raise BackendUnavailable(f"backend 'torch' has precision 'f32', 'bf16' or 'f16', not {precision!r}")
        count = torch.cuda.device_count()
        if not 0 <= gpu < count:
            raise BackendUnavailable(f"gpu is {gpu}, but this machine has {count}, counted from 0")
        self._device = torch.device("cuda", gpu)
        self.device = f"{torch.cuda.get_device_name(gpu)} (GPU {gpu})"
        network = load_entry(model, entry).to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Network | None = compiled(network) if torch_compile else network
        if torch_compile:
            compile_now(self.infer, self.spec)

    def close(self) -> None:
        """Free the network, and the memory of batches under way when they are done; may be called twice."""
        super().close()
        self._network = None

    def _new_slot(self) -> "_CudaSlot":
        if self._network is None:
            raise EngineError("the engine is closed")
        return _CudaSlot(self._network, self.spec, self._device)

    def _on_gpu(self) -> ExitStack:
        # PyTorch keeps all of these for each thread.
        with ExitStack() as settings:
            settings.enter_context(_Sentences())
            settings.enter_context(torch.cuda.device(self._device))
            settings.enter_context(torch.inference_mode())
            # TF32 would round f32, which parity is checked with, to 10 bits.
            settings.enter_context(torch.backends.cudnn.flags(allow_tf32=False))
            low = PRECISIONS[self.precision]
            # Casts of the weights that autocast keeps would not outlive a graph's capture.
            settings.enter_context(torch.autocast("cuda", low, enabled=low is not torch.float32, cache_enabled=False))
            return settings.pop_all()


@dataclass(slots=True)
class _Sized:
    """What runs batches of one size: tensors on the GPU, and in pinned memory what goes up and comes down."""

    images: torch.Tensor
    pinned: torch.Tensor | None = None  # until pixels come; of decoded planes the letterbox holds them
    values: tuple[torch.Tensor, ...] = ()
    taken: tuple[torch.Tensor, ...] = ()
    runs: int = 0
    graph: torch.cuda.CUDAGraph | None = None


class _CudaSlot:
    """A stream, and the memory of one batch under way."""

    def __init__(self, network: Network, spec: EntrySpec, device: torch.device) -> None:
        self._network = network
        self._spec = spec
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Without blocking a waiting thread would spin, on a core that the decoders need.
        self._done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()  # its graphs never run at once, and share what lies between layers
        self._sized: dict[int, _Sized] = {}
        self._running: _Sized | None = None
        self._letterbox: TorchLetterbox | None = None  # until decoded planes come

    def start(self, batch: Pictures) -> None:
        """Copy a batch, and begin to run it."""
        sized = self._for(len(batch))
        if sized.pinned is None:
            sized.pinned = _pinned(sized.images.shape, torch.uint8)
        pinned = sized.pinned
        pinned.copy_(torch.from_numpy(np.ascontiguousarray(batch)))
        self._run(sized, lambda: sized.images.copy_(pinned, non_blocking=True))

    def start_planes(self, pictures: Sequence[Planes]) -> None:
        """Copy the planes of a batch, letterbox them, and begin to run it."""
        sized = self._for(len(pictures))
        with torch.cuda.stream(self._stream):
            self._letterbox = self._letterbox or TorchLetterbox(self._device)
        letterbox = self._letterbox
        self._run(sized, lambda: letterbox.fill(pictures, sized.images))

    def _run(self, sized: _Sized, fill: Callable[[], object]) -> None:
        """Fill the input and run the network on it, in the slot's stream."""
        self._running = sized
        with torch.cuda.stream(self._stream):
            if sized.runs == 1 and len(sized.images) in self._sized:
                sized.graph = self._captured(sized)
            fill()
            if sized.graph is not None:
                sized.graph.replay()
            else:
                sized.values = self._compute(sized.images)
            sized.runs += 1
            if not sized.taken:
                sized.taken = tuple(_pinned(value.shape, value.dtype) for value in sized.values)
            for taken, value in zip(sized.taken, sized.values, strict=True):
                taken.copy_(value, non_blocking=True)
            self._done.record(self._stream)

    def outputs(self) -> dict[str, Array]:
        """Wait for the batch and copy what it gave."""
        self._done.synchronize()
        assert self._running is not None, "nothing was started"
        sized, self._running = self._running, None
        return {name: as_array(value).copy() for name, value in zip(self._spec.outputs, sized.taken, strict=True)}

    def close(self) -> None:
        """Drop all tensors: PyTorch frees them when the GPU is done with them."""
        self._sized.clear()
        self._running = None

    def _compute(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        values = self._network(images)
        check_outputs(values, self._spec.outputs)
        return values

    def _captured(self, sized: _Sized) -> torch.cuda.CUDAGraph | None:
        """Capture a run as a graph, from the second batch of a size on: in the first, libraries choose kernels."""
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                sized.values = self._compute(sized.images)
        except RuntimeError as error:
            log.info("batches of this size run without a CUDA graph", batch=len(sized.images), why=one_line(error))
            return None
        return graph

    def _for(self, count: int) -> _Sized:
        if count in self._sized:
            return self._sized[count]
        shape = torch.Size((count, self._spec.height, self._spec.width, 3))
        images = torch.empty(shape, dtype=torch.uint8, device=self._device)
        sized = _Sized(images)
        if len(self._sized) < GRAPHS:
            self._sized[count] = sized
        return sized


class _Sentences:
    """Turn PyTorch's errors into ours."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise EngineError(f"the GPU has not enough memory for this batch: {one_line(error)}") from error
        if isinstance(error, RuntimeError):
            raise EngineError(f"the PyTorch network failed: {one_line(error)}") from error


def _pinned(shape: torch.Size, dtype: torch.dtype) -> torch.Tensor:
    """Allocate page-locked memory, so that copies to and from the GPU run beside everything else."""
    return torch.empty(shape, dtype=dtype, pin_memory=True)
