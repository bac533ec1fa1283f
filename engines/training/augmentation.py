"""Batched augmentation in torch: one affine resampling and a few pixel operations, on whatever device holds the data.

Boxes and landmarks go through the same matrix as the pixels. Mosaics are four quarter-size resamplings side by side.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.pictures import PADDING_GREY
from engines.training.datasets import BoxLabels, PictureSet
from engines.training.settings import AugmentationSettings

MIN_VISIBLE = 0.35  # a box that keeps less of its area is ignored
MIN_SIDE_PX = 3.0
MIRRORED = [1, 0, 2, 4, 3]  # landmarks after a flip


@dataclass(frozen=True, slots=True)
class Targets:
    """Boxes of a micro-batch in input pixels, padded to B; see BoxLabels."""

    boxes: Tensor  # (N, B, 4)
    classes: Tensor  # (N, B), -1 for padding
    ignore: Tensor  # (N, B)
    landmarks: Tensor | None
    has_landmarks: Tensor | None
    only_near: bool


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Pictures and the labels that their set has; what it has not is None."""

    pictures: Tensor  # (N, H, W, 3) uint8
    objects: Targets | None
    faces: Targets | None
    labels: Tensor | None  # (N,)


class Augmenter:
    """Draws varied micro-batches from a set. Deterministic for a generator's state."""

    def __init__(self, settings: AugmentationSettings, generator: torch.Generator) -> None:
        self.settings = settings
        self.generator = generator

    def __call__(self, data: PictureSet, rows: Tensor, size: int, *, mosaic: bool = False) -> MicroBatch:
        """Micro-batch of ``rows`` at ``size`` pixels; a mosaic makes one picture of each four rows."""
        side = size // 2 if mosaic else size
        matrices, flipped = self._matrices(data, rows, side)
        pictures = _resample(data.pictures[rows], data.extents[rows], matrices, side)
        objects, faces = (
            None if labels is None else _move(labels, rows, matrices, flipped, data.extents[rows], side)
            for labels in (data.objects, data.faces)
        )
        if mosaic:
            pictures = _tile(pictures)
            objects, faces = (None if t is None else _tile_targets(t, side) for t in (objects, faces))
        objects, faces = (None if t is None else _trim(t) for t in (objects, faces))
        labels = None if data.labels is None else data.labels[rows]
        return MicroBatch(self._pixels(pictures), objects, faces, labels)

    def _uniform(self, count: int, low: float, high: float) -> Tensor:
        return torch.rand(count, generator=self.generator) * (high - low) + low

    def _matrices(self, data: PictureSet, rows: Tensor, side: int) -> tuple[Tensor, Tensor]:
        """Canvas -> input matrices (N, 2, 3) and which rows are mirrored (N,)."""
        s, count = self.settings, len(rows)
        extent = data.extents[rows].cpu()
        fit = side / extent.amax(1)  # the letterbox's own scale
        scale = fit * torch.exp(self._uniform(count, math.log(s.scale[0]), math.log(s.scale[1])))
        aspect = torch.exp(self._uniform(count, -0.1, 0.1))
        angle = torch.deg2rad(self._uniform(count, -s.rotate_deg, s.rotate_deg))
        flipped = torch.rand(count, generator=self.generator) < s.flip
        sx, sy = scale * aspect, scale / aspect
        mirror = torch.where(flipped, -1.0, 1.0)
        linear = torch.stack(
            [
                torch.stack([angle.cos() * sx * mirror, -angle.sin() * sy], 1),
                torch.stack([angle.sin() * sx * mirror, angle.cos() * sy], 1),
            ],
            1,
        )
        # Where the picture is larger than the input the centre wanders over it; else the picture wanders in the input.
        slack = (torch.stack([extent[:, 0] * sx, extent[:, 1] * sy], 1) - side).abs() / 2
        room = torch.maximum(slack, torch.full_like(slack, s.shift * side))
        offset = (torch.rand(count, 2, generator=self.generator) * 2 - 1) * room
        centre = (linear @ (extent / 2)[..., None])[..., 0]
        shift = side / 2 + offset - centre
        matrices = torch.cat([linear, shift[..., None]], 2)
        return matrices.to(data.pictures.device), flipped.to(data.pictures.device)

    def _pixels(self, pictures: Tensor) -> Tensor:
        """Colour, noise, blur and erasing; float (N, 3, H, W) in, uint8 (N, H, W, 3) out."""
        s, count, device = self.settings, pictures.shape[0], pictures.device

        def factor(amount: float) -> Tensor:
            return (1 + self._uniform(count, -amount, amount)).to(device)[:, None, None, None]

        weights = torch.tensor([0.299, 0.587, 0.114], device=device)[None, :, None, None]
        grey = (pictures * weights).sum(1, keepdim=True)
        to_grey = (torch.rand(count, generator=self.generator) < s.grey).to(device)[:, None, None, None]
        colour = torch.where(to_grey, torch.zeros_like(factor(0.0)), factor(s.saturation))
        contrast, brightness = factor(s.contrast), factor(s.brightness)
        mean = grey.mean((2, 3), keepdim=True)
        pictures = ((grey + (pictures - grey) * colour - mean) * contrast + mean) * brightness
        blurred = (torch.rand(count, generator=self.generator) < s.blur).to(device)
        if bool(blurred.any()):
            pictures[blurred] = _soften(pictures[blurred])
        if s.noise > 0:
            amount = (self._uniform(count, 0, s.noise)).to(device)[:, None, None, None]
            grain = torch.randn(1, *pictures.shape[1:], generator=self.generator).to(device)
            pictures = pictures + grain * amount
        self._erase(pictures)
        return pictures.clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    def _erase(self, pictures: Tensor) -> None:
        """Cover a random rectangle of some pictures with grey, in place (Zhong et al. 2020)."""
        height, width = pictures.shape[2:]
        for row in (torch.rand(len(pictures), generator=self.generator) < self.settings.erase).nonzero()[:, 0].tolist():
            share = self._uniform(4, 0, 1).tolist()
            h, w = int(height * (0.1 + 0.3 * share[0])), int(width * (0.1 + 0.3 * share[1]))
            y, x = int((height - h) * share[2]), int((width - w) * share[3])
            pictures[row, :, y : y + h, x : x + w] = PADDING_GREY


def _resample(pictures: Tensor, extents: Tensor, matrices: Tensor, side: int) -> Tensor:
    """uint8 canvases (N, S, S, 3) -> float (N, 3, side, side); outside a picture is grey."""
    count, canvas = pictures.shape[0], pictures.shape[1]
    linear = torch.linalg.inv(matrices[:, :, :2])
    shift = -(linear @ matrices[:, :, 2:])
    axis = torch.arange(side, device=pictures.device) + 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(1, -1, 2)
    source = grid @ linear.transpose(1, 2) + shift.transpose(1, 2)
    inside = ((source >= 0) & (source <= extents[:, None])).all(-1).view(count, 1, side, side)
    normal = (source * (2.0 / canvas) - 1).view(count, side, side, 2)
    planes = pictures.permute(0, 3, 1, 2).float()
    sampled = F.grid_sample(planes, normal, mode="bilinear", padding_mode="border", align_corners=False)
    return torch.where(inside, sampled, torch.full_like(sampled, float(PADDING_GREY)))


def _move(labels: BoxLabels, rows: Tensor, matrices: Tensor, flipped: Tensor, extents: Tensor, side: int) -> Targets:
    """Labels of rows in input pixels: clipped, and those that left the picture removed or ignored."""
    boxes, classes, ignore = labels.boxes[rows], labels.classes[rows], labels.ignore[rows]
    x0, y0, x1, y1 = boxes.unbind(-1)
    corners = torch.stack([torch.stack([x, y], -1) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 2)
    moved = _apply(corners, matrices)
    # A turned box's hull grows; take the mean of hull and inscribed extents, which follows the object better.
    centre, reach = moved.mean(2), (moved - moved.mean(2, keepdim=True)).abs().mean(2)
    whole = torch.cat([centre - reach, centre + reach], -1)
    clipped = whole.clamp(0, side)
    area, visible = _area(whole), _area(clipped)
    small = ((clipped[..., 2:] - clipped[..., :2]) < MIN_SIDE_PX).any(-1)
    gone = (visible <= 0) | small
    classes = torch.where(gone, torch.full_like(classes, -1), classes)
    ignore = ignore | (visible < MIN_VISIBLE * area)
    if labels.landmarks is None or labels.has_landmarks is None:
        return Targets(clipped, classes, ignore, None, None, labels.only_near)
    points = _apply(labels.landmarks[rows], matrices)
    points = torch.where(flipped[:, None, None, None], points[:, :, MIRRORED], points)
    return Targets(clipped, classes, ignore, points, labels.has_landmarks[rows], labels.only_near)


def _apply(points: Tensor, matrices: Tensor) -> Tensor:
    """(N, B, K, 2) points through (N, 2, 3) matrices."""
    return torch.einsum("nij,nbkj->nbki", matrices[:, :, :2], points) + matrices[:, None, None, :, 2]


def _area(boxes: Tensor) -> Tensor:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _soften(pictures: Tensor) -> Tensor:
    """Half the resolution and back."""
    small = F.interpolate(pictures, scale_factor=0.5, mode="area")
    return F.interpolate(small, size=pictures.shape[2:], mode="bilinear", align_corners=False)


def _tile(quarters: Tensor) -> Tensor:
    """(4N, C, h, w) -> (N, C, 2h, 2w)."""
    count, channels, h, w = quarters.shape
    grid = quarters.view(count // 4, 2, 2, channels, h, w).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape(count // 4, channels, 2 * h, 2 * w)


def _tile_targets(targets: Targets, side: int) -> Targets:
    """Labels of quarters (4N, B) -> of mosaics (N, 4B)."""
    quarter = torch.arange(targets.boxes.shape[0], device=targets.boxes.device) % 4
    shift = torch.stack([quarter % 2, quarter // 2], 1).float() * side

    def joined(values: Tensor) -> Tensor:
        return values.reshape(values.shape[0] // 4, 4 * values.shape[1], *values.shape[2:])

    return Targets(
        joined(targets.boxes + shift.repeat(1, 2)[:, None]),
        joined(targets.classes),
        joined(targets.ignore),
        None if targets.landmarks is None else joined(targets.landmarks + shift[:, None, None]),
        None if targets.has_landmarks is None else joined(targets.has_landmarks),
        targets.only_near,
    )


def _trim(targets: Targets) -> Targets:
    """Real rows first, and only as many columns as the fullest picture needs."""
    real = targets.classes >= 0
    most = max(1, int(real.sum(1).max()))
    order = real.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]

    def picked(values: Tensor) -> Tensor:
        index = order.view(*order.shape, *(1,) * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)

    return Targets(
        picked(targets.boxes),
        picked(targets.classes),
        picked(targets.ignore),
        None if targets.landmarks is None else picked(targets.landmarks),
        None if targets.has_landmarks is None else picked(targets.has_landmarks),
        targets.only_near,
    )
