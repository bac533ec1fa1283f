"""What the heads read: the maps of trunk and neck, and where their cells lie in the input."""

from typing import NamedTuple

import torch
from torch import Tensor

from engines.network.neck import Pyramid
from engines.sizes import STRIDES as STRIDES


class Features(NamedTuple):
    """The maps of one batch of an entry, (N, C, H / stride, W / stride) each."""

    c4: Tensor  # of the trunk at stride 16
    c5: Tensor  # of the trunk at stride 32
    pyramid: Pyramid | None  # of the neck at strides 8, 16 and 32; None where no task reads it


class Grid(NamedTuple):
    """Every cell of the pyramid, levels in the order of STRIDES."""

    points: Tensor  # (A, 2) xy in input pixels: the cells' centres
    strides: Tensor  # (A,)
    cells: int  # A, or the fewer rows that heads may give; known while an export is traced


def anchor_points(height: int, width: int) -> Grid:
    """The grid of an input of so many pixels."""
    points, strides = [], []
    for stride in STRIDES:
        y, x = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        points.append((torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride)
        strides.append(torch.full((points[-1].shape[0],), float(stride)))
    joined = torch.cat(points)
    return Grid(joined, torch.cat(strides), len(joined))
