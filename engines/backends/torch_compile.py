"""A network whose kernels ``torch.compile`` makes, in place of those that PyTorch brings."""

from collections.abc import Callable
from typing import Final

import numpy as np
import torch
from torch import nn

from engines.arrays import Pictures
from engines.errors import BackendUnavailable, EngineError
from engines.spec import EntrySpec

# Dynamo makes kernels of their own for one picture, and one set for any larger batch: both before the first frame.
SIZES: Final = (1, 2)

Network = Callable[[torch.Tensor], tuple[torch.Tensor, ...]]


def compiled(network: nn.Module) -> Network:
    """Return the network, to be compiled for one picture and for larger batches when the first of each comes."""
    optimised: Network = torch.compile(network)

    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if len(images) > 1:
            torch._dynamo.mark_dynamic(images, 0)  # or every batch size would be compiled, minutes into a run
        return optimised(images)

    return run


def compile_now(infer: Callable[[Pictures], object], spec: EntrySpec) -> None:
    """Compile all kernels, which takes about a minute.

    Raises:
        BackendUnavailable: the compilers that it needs are missing, or fail.
    """
    for count in SIZES:
        try:
            infer(np.zeros((count, spec.height, spec.width, 3), np.uint8))
        except EngineError as error:
            raise BackendUnavailable(f"torch_compile is true, but torch.compile fails here: {error}") from error
