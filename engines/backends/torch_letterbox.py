"""Decoded planes -> the network's input, in PyTorch's operations on whatever device: on a GPU nothing comes back.

Does what ``engines.pictures.resize`` and the conversion of colours after it do on the CPU. Values are rounded once, at
the end, in place of after every step, so that they differ from those of the CPU by what its roundings lose: any one by
4 of 255 at most, and by less than 0.75 in the mean of a picture (a test compares all kinds of pictures).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from engines.arrays import Float
from engines.boxes import Letterbox
from engines.errors import BackendUnavailable, EngineError, one_line
from engines.pictures import PADDING_GREY
from engines.planes import Planes

MIN_STAGED: Final = 2**20  # bytes

Likeness = tuple[tuple[tuple[int, ...], ...], Letterbox, bytes]


class TorchLetterbox:
    """Fits batches of pictures into the network's input; holds the memory that they go through, so one batch at a time.

    Pictures that are alike in size and colours are scaled together.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._colours: dict[bytes, Tensor] = {}
        self._hold(MIN_STAGED)

    def fill(self, pictures: Sequence[Planes], out: Tensor) -> None:
        """Write pictures into ``out`` (N, H, W, 3), uint8 RGB on the device, in the turn of the current stream.

        The planes have been read when this returns. ``out`` is good when the stream has come so far, and no other
        batch may be filled before.
        """
        groups: dict[Likeness, list[int]] = {}
        for row, picture in enumerate(pictures):
            groups.setdefault(_likeness(picture), []).append(row)
        self._stage([pictures[row] for rows in groups.values() for row in rows])
        # A network that computes in half precision must not do so with colours.
        with torch.autocast(self._device.type, enabled=False):
            out.fill_(PADDING_GREY)
            start = 0
            for rows in groups.values():
                start = self._fill_alike(pictures[rows[0]], rows, start, out)

    def _stage(self, pictures: Sequence[Planes]) -> None:
        """Copy all planes up, one behind the other."""
        total = sum(plane.size for picture in pictures for plane in picture.planes)
        if total > len(self._staged):
            self._hold(total)
        host, start = self._host.numpy(), 0
        for picture in pictures:
            for plane in picture.planes:
                np.copyto(host[start : start + plane.size].reshape(plane.shape), plane)
                start += plane.size
        self._staged[:total].copy_(self._host[:total], non_blocking=True)

    def _hold(self, size: int) -> None:
        # Pinned, so that the copy runs beside everything else.
        self._host = torch.empty(size, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        self._staged = torch.empty(size, dtype=torch.uint8, device=self._device)

    def _fill_alike(self, like: Planes, rows: Sequence[int], start: int, out: Tensor) -> int:
        """Letterbox pictures that lie one behind the other from byte ``start`` on; returns where the next one lies."""
        size = sum(plane.size for plane in like.planes)
        stop = start + len(rows) * size
        rgb = self._rgb(like, self._staged[start:stop].view(len(rows), size)).round_().clamp_(0, 255)
        (width, height), (left, top) = like.letterbox.scaled, like.letterbox.pad
        inside = out[:, top : top + height, left : left + width]
        if len(rows) == len(out):
            inside.copy_(rgb.permute(0, 2, 3, 1))
        else:
            for row, values in zip(rows, rgb, strict=True):
                inside[row].copy_(values.permute(1, 2, 0))
        return stop

    def _rgb(self, like: Planes, raw: Tensor) -> Tensor:
        """Return scaled RGB (N, 3, h, w), float, of pictures as bytes (N, size)."""
        scaled = like.letterbox.scaled
        if like.rgb_from_yuv is None:
            return resized(raw.view(-1, *like.shapes[0]).permute(0, 3, 1, 2), scaled)
        (height, width), chroma, split = scaled[::-1], like.shapes[1], like.planes[0].size
        y = resized(raw[:, :split].reshape(-1, 1, *like.shapes[0]), scaled)
        uv = resized(raw[:, split:].reshape(-1, 2, *chroma), scaled)
        colour = self._colour(like.rgb_from_yuv).expand(len(raw), 3, 4)
        rgb = torch.baddbmm(colour[..., 3:], colour[..., :3], torch.cat([y, uv], dim=1).flatten(2))
        return rgb.view(-1, 3, height, width)

    def _colour(self, rgb_from_yuv: Float) -> Tensor:
        key = rgb_from_yuv.tobytes()
        if key not in self._colours:
            self._colours[key] = torch.from_numpy(rgb_from_yuv).to(self._device)
        return self._colours[key]


class BorrowedLetterbox:
    """Letterboxes into memory on a GPU that another library took, on a stream of that library.

    Both reach the GPU through its one primary context, so that each may use the other's memory and streams.
    """

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


def resized(planes: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize uint8 planes (N, C, H, W) to ``size`` = (width, height), as ``engines.pictures.resize`` does; float."""
    width, height = size
    scaled = planes.float()
    while scaled.shape[-1] >= 2 * width and scaled.shape[-2] >= 2 * height:
        if scaled.shape[-1] % 2 or scaled.shape[-2] % 2:
            rows, columns = (
                area_weights(now, then, planes.device) for now, then in zip(scaled.shape[-2:], size[::-1], strict=True)
            )
            return rows @ scaled @ columns.T
        scaled = F.avg_pool2d(scaled, 2)
    return F.interpolate(scaled, (height, width), mode="bilinear", align_corners=False)


@lru_cache(maxsize=256)  # a stream's sizes are the same for every frame
def area_weights(source: int, target: int, device: torch.device) -> Tensor:
    """Return the weights of ``source`` pixels for each of fewer, ``target``: (target, source), rows sum to 1."""
    edges = torch.arange(target + 1, dtype=torch.float64) * (source / target)
    pixels = torch.arange(source, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return (covered.clamp_(min=0) * (target / source)).to(device, torch.float32)


def _likeness(picture: Planes) -> Likeness:
    colours = b"" if picture.rgb_from_yuv is None else picture.rgb_from_yuv.tobytes()
    return picture.shapes, picture.letterbox, colours
