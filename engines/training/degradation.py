"""What cameras and codecs do to pictures, batched: uint8 (K, H, W, 3) in and out, one strength a picture."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# Quantisation of luminance and chrominance at quality 50: ITU-T T.81 (JPEG), annex K, tables K.1 and K.2.
LUMINANCE = [
    [16, 11, 10, 16, 24, 40, 51, 61],
    [12, 12, 14, 19, 26, 58, 60, 55],
    [14, 13, 16, 24, 40, 57, 69, 56],
    [14, 17, 22, 29, 51, 87, 80, 62],
    [18, 22, 37, 56, 68, 109, 103, 77],
    [24, 35, 55, 64, 81, 104, 113, 92],
    [49, 64, 78, 87, 103, 121, 120, 101],
    [72, 92, 95, 98, 112, 100, 103, 99],
]
CHROMINANCE = [
    [17, 18, 24, 47],
    [18, 21, 26, 66],
    [24, 26, 56, 99],
    [47, 66, 99, 99],
]  # and 99 in the other half
YCBCR = [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]]  # ITU-T T.871 (JFIF)
BLOCK = 8


def noise(pictures: Tensor, grain: Tensor, level: Tensor) -> Tensor:
    """Add ``grain`` (H, W, 3) of unit variance, as strong as ``level`` (K,) in grey levels."""
    return _bytes(pictures.float().addcmul_(grain, level[:, None, None, None]))


def low_light(pictures: Tensor, grain: Tensor, darkness: Tensor) -> Tensor:
    """Darken by gamma and gain, and add the grain (H, W, 3) that a camera's amplifier adds; darkness (K,) in [0, 1]."""
    dark = darkness[:, None, None, None]
    exposed = (pictures.float() / 255).pow(1.2 + 0.8 * dark) * (0.75 - 0.4 * dark) * 255
    return _bytes(exposed.addcmul_(grain, 3 + 7 * dark))


def blur(pictures: Tensor) -> Tensor:
    """Half the resolution and back."""
    planes = _planes(pictures)
    small = F.avg_pool2d(planes, 2)
    return _bytes(F.interpolate(small, size=planes.shape[2:], mode="bilinear", align_corners=False).permute(0, 2, 3, 1))


def jpeg(pictures: Tensor, quality: Tensor) -> Tensor:
    """What JPEG leaves of pictures at ``quality`` (K,) in 1-100, with colour at half the resolution.

    The discrete cosine transform of 8x8 blocks, divided by the quantisation tables, rounded and back. H and W must be
    multiples of 16.
    """
    device = pictures.device
    mix = torch.tensor(YCBCR, device=device)
    luma, chroma = torch.split(torch.einsum("ij,kjhw->kihw", mix, _planes(pictures)), [1, 2], 1)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50).to(device)[:, None]  # as libjpeg has it
    table = torch.full((BLOCK, BLOCK), 99.0, device=device)
    table[:4, :4] = torch.tensor(CHROMINANCE, device=device, dtype=torch.float32)
    luma = _quantised(luma - 128, torch.tensor(LUMINANCE, device=device, dtype=torch.float32), scale) + 128
    chroma = _quantised(F.avg_pool2d(chroma, 2), table, scale.repeat_interleave(2, 0))
    chroma = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    back = torch.einsum("ij,kjhw->khwi", torch.linalg.inv(mix), torch.cat([luma, chroma], 1))
    return _bytes(back)


def _quantised(planes: Tensor, table: Tensor, scale: Tensor) -> Tensor:
    """Planes (K, C, H, W) after rounding in the frequencies of their blocks; scale (K * C, 1)."""
    count, channels, height, width = planes.shape
    blocks = planes.reshape(count * channels, height // BLOCK, BLOCK, width // BLOCK, BLOCK).transpose(2, 3)
    basis = _cosines().to(planes.device)
    step = (table * scale[..., None]).clamp(min=1).round()[:, None, None]
    rounded = ((basis @ blocks @ basis.T) / step).round() * step
    return (basis.T @ rounded @ basis).transpose(2, 3).reshape(planes.shape)


def _cosines() -> Tensor:
    """The orthonormal DCT-II matrix (8, 8)."""
    place = torch.arange(BLOCK, dtype=torch.float32)
    basis = torch.cos(math.pi / BLOCK * (place + 0.5) * place[:, None]) * math.sqrt(2 / BLOCK)
    basis[0] /= math.sqrt(2)
    return basis


def _planes(pictures: Tensor) -> Tensor:
    return pictures.permute(0, 3, 1, 2).float()


def _bytes(pictures: Tensor) -> Tensor:
    return pictures.round_().clamp_(0, 255).to(torch.uint8)
