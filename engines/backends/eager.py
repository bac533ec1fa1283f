"""PyTorch: on the CPU the reference that every other engine is checked against, on a GPU an engine of its own."""

import pickle
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.network.entries import FaceEntry, FrameEntry
from engines.network.network import Network, build_network
from engines.spec import EntryName, Model, Precision

if TYPE_CHECKING:
    from engines.backends.eager_cuda import TorchCudaEngine

PRECISIONS = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


class TorchEngine:
    """An entry run from ``weights.pt`` on the CPU."""

    def __init__(self, model: Model, entry: EntryName, precision: Precision = "auto") -> None:
        """Build the network around its weights; ``auto`` is f32, as it is the reference.

        Raises:
            BackendUnavailable: f16 or int8.
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
        self._entry: nn.Module | None = load_entry(model, entry)

    def start(self, batch: npt.NDArray[np.uint8]) -> "Computed":
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

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """Run uint8 RGB pictures (N, H, W, 3); EngineError where the batch or the run is not good."""
        return self.start(batch).outputs()

    def close(self) -> None:
        """Free the network; may be called twice."""
        self._entry = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast("cpu", PRECISIONS[self.precision], enabled=self.precision != "f32")


class Computed:
    """A batch whose outputs are there."""

    def __init__(self, outputs: dict[str, npt.NDArray[np.generic]]) -> None:
        self._outputs = outputs

    def outputs(self) -> dict[str, npt.NDArray[np.generic]]:
        """The entry's outputs, batch first."""
        return self._outputs


def open_torch(
    model: Model, entry: EntryName, precision: Precision = "auto", *, gpu: int = 0
) -> "TorchEngine | TorchCudaEngine":
    """The PyTorch engine of this machine: on CUDA where there is one, else on the CPU.

    Raises:
        BackendUnavailable: the precision or the GPU is not to be had.
        ModelError: the weights cannot be read or belong to another network.
    """
    if not torch.cuda.is_available():
        return TorchEngine(model, entry, precision)
    from engines.backends.eager_cuda import TorchCudaEngine

    return TorchCudaEngine(model, entry, precision, gpu=gpu)


def load_entry(model: Model, entry: EntryName) -> nn.Module:
    """An entry's network with its weights, on the CPU, in inference mode.

    Raises:
        ModelError: the weights cannot be read or belong to another network.
    """
    spec = model.spec.entry(entry)
    network = _load(model)
    built = FaceEntry(network) if entry == "face" else FrameEntry(network, (spec.height, spec.width))
    return built.eval()


def check_outputs(values: tuple[torch.Tensor, ...], names: dict[str, tuple[int, ...]]) -> None:
    """Raise EngineError unless there is a value for each name."""
    if len(values) != len(names):
        raise EngineError(f"the PyTorch network gives {len(values)} outputs, expected {len(names)}")


def as_array(value: torch.Tensor) -> npt.NDArray[np.generic]:
    """The values of a tensor in this machine's memory; NumPy has no bfloat16."""
    return np.asarray((value.float() if value.is_floating_point() else value).numpy())


def _load(model: Model) -> Network:
    spec, path = model.spec, model.weights
    network = build_network(spec.network, len(spec.objects), len(spec.scenes))
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    except FileNotFoundError as error:
        raise ModelError(f"model {model.path}: {path.name} is missing, and the torch backend needs it") from error
    # Damaged files show as any of these; load_state_dict raises RuntimeError for other layers or shapes.
    except (OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"model {model.path}: {path.name} cannot be loaded: {one_line(error)}") from error
    return network
