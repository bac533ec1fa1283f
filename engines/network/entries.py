"""The two entries as they are exported and served: uint8 pictures in, decoded rows out."""

import torch
from torch import Tensor, nn

from engines.alignment import SIZE
from engines.network.features import Grid, anchor_points
from engines.network.network import Network, Raw


class FrameEntry(nn.Module):
    """Whole frames of one size. Decoding and top-k happen here, so that the host gets a few hundred rows."""

    points: Tensor
    strides: Tensor

    def __init__(self, network: Network, size: tuple[int, int], rows: int | None = None) -> None:
        """Frames of ``size`` (height, width), from which no head gives more than ``rows`` rows."""
        super().__init__()
        self.network = network
        points, strides, cells = anchor_points(*size)
        self.cells = cells if rows is None else min(cells, rows)
        self.register_buffer("points", points, persistent=False)
        self.register_buffer("strides", strides, persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, H, W, 3) -> the outputs of the network's tasks, rows sorted by score.

        Their order is that of :func:`engines.spec.output_names`.
        """
        grid = Grid(self.points, self.strides, self.cells)
        found = self.network.frame(images).items()
        return tuple(value for name, raw in found for value in self.network.head(name).exported(raw, grid))


class FaceEntry(nn.Module):
    """Aligned faces."""

    columns: Tensor

    def __init__(self, network: Network, *, mirrored: bool = False) -> None:
        """With ``mirrored``, outputs are made from the mean of what the heads say of a face and of its mirror image."""
        super().__init__()
        self.network = network
        self.mirrored = mirrored
        self.register_buffer("columns", torch.arange(SIZE).flip(0), persistent=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """uint8 (N, 112, 112, 3) -> the outputs of the network's tasks of faces, as for frames."""
        if self.mirrored:
            pixels = images.to(torch.float32)  # TensorRT gathers no uint8
            images = torch.cat([pixels, pixels[:, :, self.columns]])
        found = self.network.face(images)
        if self.mirrored:
            found = {name: _mean(raw) for name, raw in found.items()}
        return tuple(value for name, raw in found.items() for value in self.network.head(name).exported(raw, None))


def _mean(raw: Raw) -> Raw:
    """Of the two halves of a batch (2N, ...) that a head gave: (N, ...)."""
    return raw.reshape(2, -1, *raw.shape[1:]).mean(0) if isinstance(raw, Tensor) else tuple(map(_mean, raw))
