"""An entry as a PyTorch network with its weights, for the PyTorch engines on CPUs and GPUs."""

import pickle
from typing import Final

import numpy as np
import torch
from torch import nn

from engines.arrays import Array
from engines.errors import EngineError, ModelError, one_line
from engines.network.entries import FaceEntry, FrameEntry
from engines.network.network import Network, build_network
from engines.sizes import most_rows
from engines.spec import EntryName, Model

PRECISIONS: Final = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def load_entry(model: Model, entry: EntryName) -> nn.Module:
    """Return an entry's network with its weights, on the CPU, in inference mode.

    Raises:
        ModelError: the weights cannot be read or belong to another network.
    """
    spec = model.spec.entry(entry)
    network = _load(model)
    if entry == "face":
        return FaceEntry(network, mirrored=model.spec.network.mirrored_faces).eval()
    return FrameEntry(network, (spec.height, spec.width), most_rows(spec)).eval()


def check_outputs(values: tuple[torch.Tensor, ...], names: dict[str, tuple[int, ...]]) -> None:
    """Raise EngineError unless there is a value for each name."""
    if len(values) != len(names):
        raise EngineError(f"the PyTorch network gives {len(values)} outputs, expected {len(names)}")


def as_array(value: torch.Tensor) -> Array:
    """Return the values of a tensor in this machine's memory; NumPy has no bfloat16."""
    return np.asarray((value.float() if value.is_floating_point() else value).numpy())


def _load(model: Model) -> Network:
    spec, path = model.spec, model.weights
    network = build_network(spec.network, len(spec.objects), len(spec.scenes))
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    # Damaged files show as any of these; load_state_dict raises RuntimeError for other layers or shapes.
    except (OSError, EOFError, pickle.UnpicklingError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(f"model {model.path}: {path.name} cannot be loaded: {one_line(error)}") from error
    return network
