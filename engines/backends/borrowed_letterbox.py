"""Letterboxing with PyTorch into memory on a GPU that another library took, on a stream of that library.

Both reach the GPU through its one primary context, so that each may use the other's memory and streams.
"""

from collections.abc import Sequence
from typing import Any

import torch

from engines.backends.torch_letterbox import TorchLetterbox
from engines.errors import BackendUnavailable, EngineError, one_line
from engines.planes import Planes


class BorrowedLetterbox:
    """A letterbox on a stream of another library."""

    def __init__(self, gpu: int, stream: int) -> None:
        """Take memory on the GPU of this index; ``stream`` is the handle of a stream there.

        Raises:
            BackendUnavailable: this PyTorch finds no such GPU.
        """
        if gpu >= torch.cuda.device_count():
            raise BackendUnavailable(
                f"letterboxing on GPU {gpu} needs a PyTorch that finds it; install one with: "
                "pip install --force-reinstall torch"
            )
        self._device = torch.device("cuda", gpu)
        self._stream = torch.cuda.ExternalStream(stream, self._device)  # type: ignore[no-untyped-call]
        with torch.cuda.stream(self._stream):
            self._letterbox = TorchLetterbox(self._device)

    def fill(self, pictures: Sequence[Planes], address: int, shape: tuple[int, ...]) -> None:
        """Write pictures into ``shape`` = (N, H, W, 3) bytes from ``address`` on, in the stream's turn.

        Raises:
            EngineError: PyTorch fails, as for lack of memory.
        """
        try:
            with torch.cuda.device(self._device), torch.cuda.stream(self._stream), torch.inference_mode():
                self._letterbox.fill(pictures, torch.as_tensor(_Memory(address, shape), device=self._device))
        except RuntimeError as error:
            raise EngineError(f"letterboxing on the GPU failed: {one_line(error)}") from error


class _Memory:
    """Bytes on a GPU, as CUDA's array interface (version 3) tells other libraries of them."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__: dict[str, Any] = {
            "shape": shape,
            "typestr": "|u1",
            "data": (address, False),
            "version": 3,
        }
