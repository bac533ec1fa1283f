"""PyTorch: on the CPU the reference that every other engine is checked against, on a GPU an engine of its own."""

from contextlib import AbstractContextManager

import numpy as np
import torch

from engines.arrays import Array, Pictures
from engines.backends.base import StartedEngine
from engines.backends.eager_cuda import TorchCudaEngine
from engines.backends.torch_compile import Network, compile_now, compiled
from engines.backends.weights import PRECISIONS, as_array, check_outputs, load_entry
from engines.errors import BackendUnavailable, EngineError, one_line
from engines.spec import EntryName, Model, Precision


class TorchEngine(StartedEngine):
    """An entry run from ``weights.pt`` on the CPU."""

    def __init__(
        self, model: Model, entry: EntryName, precision: Precision = "auto", *, torch_compile: bool = False
    ) -> None:
        """Build the network around its weights; ``auto`` is f32, as it is the reference.

        Raises:
            BackendUnavailable: f16 or int8, or ``torch.compile`` is to make the kernels and cannot.
            ModelError: the weights cannot be read or belong to another network.
        """
        self.spec = model.spec.entry(entry)
        self.backend = "torch"
        self.device = "cpu"
        self.depth = 1
        self.precision: str = "f32" if precision == "auto" else precision
        if self.precision not in ("f32", "bf16"):
            raise BackendUnavailable(
                f"backend 'torch' has precision 'f32', 'bf16' or, on a GPU, 'f16', not {precision!r} on a CPU"
            )
        network = load_entry(model, entry)
        self._entry: Network | None = compiled(network) if torch_compile else network
        if torch_compile:
            compile_now(self.infer, self.spec)

    def start(self, batch: Pictures) -> "Computed":
        """Run uint8 RGB pictures (N, H, W, 3) at once: what is under way on a CPU keeps the next batch waiting."""
        if self._entry is None:
            raise EngineError("the engine is closed")
        self.spec.check(batch)
        try:
            with torch.inference_mode(), self._autocast():
                values = self._entry(torch.from_numpy(np.ascontiguousarray(batch)))
        except RuntimeError as error:
            raise EngineError(f"the PyTorch network failed: {one_line(error)}") from error
        check_outputs(values, self.spec.outputs)
        return Computed({name: as_array(value) for name, value in zip(self.spec.outputs, values, strict=True)})

    def close(self) -> None:
        """Free the network; may be called twice."""
        self._entry = None

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", PRECISIONS[self.precision], enabled=self.precision != "f32")


class Computed:
    """A batch whose outputs are there."""

    def __init__(self, outputs: dict[str, Array]) -> None:
        self._outputs = outputs

    def outputs(self) -> dict[str, Array]:
        """Return the entry's outputs, batch first."""
        return self._outputs


def open_torch(
    model: Model,
    entry: EntryName,
    precision: Precision = "auto",
    *,
    gpu: int | None = None,
    torch_compile: bool = False,
) -> TorchEngine | TorchCudaEngine:
    """Open the PyTorch engine of this machine: on CUDA where there is one, else on the CPU.

    Raises:
        BackendUnavailable: the precision or the GPU is not to be had, or ``torch.compile`` fails.
        ModelError: the weights cannot be read or belong to another network.
    """
    if torch.cuda.is_available():
        return TorchCudaEngine(model, entry, precision, gpu=gpu or 0, torch_compile=torch_compile)
    if gpu is not None:
        raise BackendUnavailable(f"gpu is {gpu}, but this PyTorch finds none")
    return TorchEngine(model, entry, precision, torch_compile=torch_compile)
