"""Pictures through one affine map and one colour matrix each: what the network's input is made with.

OpenCV does it on a CPU, eight times as fast as PyTorch there, and PyTorch anywhere else. Both sample linearly and put
the letterbox's grey where there is no picture; they agree to within a grey level but at sharp edges, where OpenCV's
positions are rounded to a 32nd of a pixel.
"""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engines.pictures import PADDING_GREY

PLAIN = np.eye(3, 4, dtype=np.float32)  # the colour matrix that changes nothing


def render(pictures: Tensor, rows: Tensor, matrices: Tensor, colours: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures of ``size`` (width, height) pixels from canvases.

    Args:
        pictures: (M, S, S, 3) uint8.
        rows: (N,) int64, which of them.
        matrices: (N, 2, 3) float32, canvas pixels -> input pixels; a pixel's centre is at a half.
        colours: (N, 3, 4) float32, RGB1 -> RGB in grey levels.
        size: of the result.

    Returns:
        (N, height, width, 3) uint8 on the device of the pictures.
    """
    made = _with_opencv if pictures.device.type == "cpu" else _with_torch
    return made(pictures, rows, matrices, colours, size)


def _with_opencv(pictures: Tensor, rows: Tensor, matrices: Tensor, colours: Tensor, size: tuple[int, int]) -> Tensor:
    canvases, out = pictures.numpy(), torch.empty(len(rows), size[1], size[0], 3, dtype=torch.uint8)
    # OpenCV counts from the centre of the first pixel.
    shift = matrices[:, :, :2].sum(2, keepdim=True) * 0.5 + matrices[:, :, 2:] - 0.5
    maps = torch.cat([matrices[:, :, :2], shift], 2).double().numpy()
    grey = (PADDING_GREY,) * 3
    for row, matrix, colour, square in zip(rows.tolist(), maps, colours.numpy(), out.numpy(), strict=True):
        cv2.warpAffine(canvases[row], matrix, size, square, cv2.INTER_LINEAR, cv2.BORDER_CONSTANT, grey)
        if not np.array_equal(colour, PLAIN):
            cv2.transform(square, colour, square)
    return out


def _with_torch(pictures: Tensor, rows: Tensor, matrices: Tensor, colours: Tensor, size: tuple[int, int]) -> Tensor:
    (width, height), canvas, device = size, pictures.shape[1], pictures.device
    matrices, colours = matrices.to(device), colours.to(device)
    linear = torch.linalg.inv(matrices[:, :, :2])
    shift = -(linear @ matrices[:, :, 2:])
    across, down = (torch.arange(side, device=device) + 0.5 for side in size)
    points = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1).reshape(1, -1, 2)
    source = points @ linear.transpose(1, 2) + shift.transpose(1, 2)
    grid = (source * (2.0 / canvas) - 1).view(-1, height, width, 2)
    # Around the grey the zeros that are sampled outside the canvas mean the grey itself.
    planes = pictures.index_select(0, rows).permute(0, 3, 1, 2).float() - PADDING_GREY
    sampled = F.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros", align_corners=False).flatten(2)
    mixed = torch.baddbmm(colours[:, :, 3:], colours[:, :, :3], sampled + PADDING_GREY)
    whole = mixed.round_().clamp_(0, 255).to(torch.uint8)
    return whole.view(-1, 3, height, width).permute(0, 2, 3, 1).contiguous()
