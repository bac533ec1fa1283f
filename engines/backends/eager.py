"""PyTorch without compiling: the reference that every other engine is checked against."""

import pickle
from contextlib import AbstractContextManager
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from engines.errors import BackendUnavailable, EngineError, ModelError, one_line
from engines.network.entries import FaceEntry, FrameEntry
from engines.network.network import Network, build_network
from engines.spec import EntryName, Model, Precision

AUTOCAST = {"bf16": torch.bfloat16, "f16": torch.float16}


class TorchEngine:
    """An entry run from ``weights.pt``, on CUDA where there is one, else on the CPU."""

    def __init__(self, model: Model, entry: EntryName, precision: Precision = "auto") -> None:
        """Build the network around its weights; ``auto`` is f32, as it is the reference.

        Raises:
            BackendUnavailable: int8, or f16 without a GPU.
            ModelError: the weights cannot be read or belong to another network.
        """
        self.spec = model.spec.entry(entry)
        self.backend = "torch"
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.precision: str = "f32" if precision == "auto" else precision
        if self.precision == "int8":
            raise BackendUnavailable("backend 'torch' has precision 'f32', 'bf16' or, on a GPU, 'f16', not 'int8'")
        if self.precision == "f16" and self.device == "cpu":
            raise BackendUnavailable("backend 'torch' has precision 'f16' on a GPU alone; use 'f32' or 'bf16'")
        network = _load(model)
        built = FaceEntry(network) if entry == "face" else FrameEntry(network, (self.spec.height, self.spec.width))
        self._entry: nn.Module | None = built.eval().to(self.device)

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        """Run uint8 RGB pictures (N, H, W, 3); EngineError where the batch or the run is not good."""
        if self._entry is None:
            raise EngineError("the engine is closed")
        self.spec.check(batch)
        try:
            # TF32 would round the reference's f32 to 10 bits.
            with torch.inference_mode(), self._autocast(), torch.backends.cudnn.flags(allow_tf32=False):
                values = self._entry(torch.from_numpy(np.ascontiguousarray(batch)).to(self.device))
        except RuntimeError as error:
            raise EngineError(f"the PyTorch network failed: {one_line(error)}") from error
        if len(values) != len(self.spec.outputs):
            raise EngineError(f"the PyTorch network gives {len(values)} outputs, expected {len(self.spec.outputs)}")
        return {name: _array(value) for name, value in zip(self.spec.outputs, values, strict=True)}

    def close(self) -> None:
        """Free the network; may be called twice."""
        self._entry = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device, AUTOCAST.get(self.precision), enabled=self.precision in AUTOCAST)


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


def _array(value: torch.Tensor) -> npt.NDArray[np.generic]:
    # NumPy has no bfloat16.
    return np.asarray((value.float() if value.is_floating_point() else value).cpu().numpy())
