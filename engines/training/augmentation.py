"""Batched augmentation: one affine map and one colour matrix a picture, then what cameras and codecs do to it.

Boxes and landmarks go through the same map as the pixels. Mosaics are four quarter-size pictures side by side. All
random numbers come from one CPU generator, so that a run goes on exactly on any device.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from engines.pictures import PADDING_GREY
from engines.training import degradation, pasting
from engines.training.datasets import BoxLabels, PictureSet
from engines.training.dense import DenseTargets
from engines.training.rendering import render
from engines.training.settings import AugmentationSettings, DatasetSettings, Shape
from engines.training.targets import Targets, move, tile, trim

HALF_ENOUGH = 1.05  # up to this many times a half-size canvas' side, the input is made from it
LUMA = (0.299, 0.587, 0.114)
JPEG_QUALITY = (15.0, 75.0)
ERASED_SHARE = (0.1, 0.4)  # of a picture's side


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Pictures and the labels that their set has; what it has not is None."""

    pictures: Tensor  # (N, H, W, 3) uint8
    objects: Targets | None
    faces: Targets | None
    labels: Tensor | None  # (N,)
    scene_targets: Tensor | None = None  # (N, S) a teacher's probabilities
    embeddings: Tensor | None = None  # (N, D) a teacher's, of unit length
    choices: Tensor | None = None  # (K,) the labels that the set tells apart; None: all
    dense: DenseTargets | None = None  # what a detector says of the pictures


def build_augmenters(
    entries: Sequence[DatasetSettings], sets: Sequence[PictureSet], generator: torch.Generator
) -> list["Augmenter"]:
    """One for each set, with the faces that it pastes."""
    by_name = {each.name: each for each in sets}
    return [
        Augmenter(entry.augmentation, generator, None if entry.faces_from is None else by_name[entry.faces_from])
        for entry in entries
    ]


class Augmenter:
    """Draws varied micro-batches from a set. Deterministic for a generator's state.

    Args:
        settings: how much of what.
        generator: on the CPU.
        faces: the set whose faces are pasted.
    """

    def __init__(
        self, settings: AugmentationSettings, generator: torch.Generator, faces: PictureSet | None = None
    ) -> None:
        self.settings = settings
        self.generator = generator
        self.faces = faces
        self._candidates: dict[tuple[str, bool], Tensor] = {}  # by set and whether they are faces

    def __call__(self, data: PictureSet, rows: Tensor, size: Shape, *, mosaic: bool = False) -> MicroBatch:
        """Micro-batch of ``rows`` at ``size`` pixels; a mosaic makes one picture of each four rows."""
        width, height = (side // 2 for side in size) if mosaic else size
        part, device = (width, height), data.pictures.device
        matrices, flipped = self._matrices(data.extents[rows].cpu(), part)
        pictures = self._rendered(data, rows, matrices, part)
        moved, mirrored = matrices.to(device), flipped.to(device)
        window = torch.tensor([[0.0, 0.0, width, height]], device=device).repeat(len(rows), 1)
        objects, faces = (
            None if labels is None else move(labels, rows, moved, mirrored, window)
            for labels in (data.objects, data.faces)
        )
        if mosaic:
            pictures = _tile(pictures)
            objects, faces = (None if t is None else tile(t, part) for t in (objects, faces))
        if data.objects is not None:
            objects, faces = self._paste(data, data.objects, self.settings.paste_objects, pictures, objects, faces)
        if self.faces is not None and self.faces.faces is not None:
            share = self.settings.paste_faces
            objects, faces = self._paste(self.faces, self.faces.faces, share, pictures, objects, faces, large=True)
        objects, faces = (None if t is None else trim(t) for t in (objects, faces))
        labels = None if data.labels is None else data.labels[rows]
        # What is said of whole pictures is not true of mosaics.
        scene_targets, embeddings = (
            None if said is None or mosaic else said[rows] for said in (data.scene_targets, data.embeddings)
        )
        self._degrade(pictures)
        return MicroBatch(pictures, objects, faces, labels, scene_targets, embeddings, data.choices)

    def _uniform(self, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(count, generator=self.generator) * (high - low) + low

    def _some(self, count: int, share: float) -> Tensor:
        """Which of ``count`` pictures something happens to."""
        return (torch.rand(count, generator=self.generator) < share).nonzero()[:, 0]

    def _matrices(self, extent: Tensor, size: Shape) -> tuple[Tensor, Tensor]:
        """Canvas -> input matrices (N, 2, 3) and which rows are mirrored (N,), for pictures of extents (N, 2)."""
        s, count, frame = self.settings, len(extent), torch.tensor(size, dtype=torch.float32)
        fit = (frame / extent).amin(1)  # the letterbox's own scale
        scale = fit * torch.exp(self._uniform(count, math.log(s.scale[0]), math.log(s.scale[1])))
        aspect = torch.exp(self._uniform(count, -s.stretch, s.stretch))
        angle = torch.deg2rad(self._uniform(count, -s.rotate_deg, s.rotate_deg))
        flipped = self._uniform(count) < s.flip
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
        slack = (torch.stack([extent[:, 0] * sx, extent[:, 1] * sy], 1) - frame).abs() / 2
        room = torch.maximum(slack, (s.shift * frame).expand_as(slack))
        offset = (torch.rand(count, 2, generator=self.generator) * 2 - 1) * room
        centre = (linear @ (extent / 2)[..., None])[..., 0]
        return torch.cat([linear, (frame / 2 + offset - centre)[..., None]], 2), flipped

    def _rendered(self, data: PictureSet, rows: Tensor, matrices: Tensor, size: Shape) -> Tensor:
        """Pictures (N, height, width, 3) in other colours.

        They are made from half-size canvases where the input is not much larger than those: that spares the smoothing
        which a strong reduction needs, and most of the reading.
        """
        colours = self._colours(data.pictures[:, ::8, ::8].index_select(0, rows).cpu())
        if data.half is None or max(size) > HALF_ENOUGH * data.half.shape[1]:
            return render(data.pictures, rows, matrices, colours, size)
        doubled = torch.cat([matrices[:, :, :2] * 2, matrices[:, :, 2:]], 2)
        return render(data.half, rows, doubled, colours, size)

    def _colours(self, thumbnails: Tensor) -> Tensor:
        """Colour matrices (N, 3, 4): saturation, contrast about the picture's own mean, and brightness."""
        s, count = self.settings, len(thumbnails)
        luma = torch.tensor(LUMA)
        mean = thumbnails.float().mean((1, 2)) @ luma
        to_grey = self._uniform(count) < s.grey
        saturation = torch.where(to_grey, 0.0, 1 + self._uniform(count, -s.saturation, s.saturation))
        contrast = 1 + self._uniform(count, -s.contrast, s.contrast)
        brightness = 1 + self._uniform(count, -s.brightness, s.brightness)
        mixed = saturation[:, None, None] * torch.eye(3) + (1 - saturation)[:, None, None] * luma
        offset = (brightness * (1 - contrast) * mean)[:, None, None].expand(-1, 3, 1)
        return torch.cat([mixed * (brightness * contrast)[:, None, None], offset], 2)

    def _paste(
        self,
        source: PictureSet,
        labels: BoxLabels,
        share: float,
        pictures: Tensor,
        objects: Targets | None,
        faces: Targets | None,
        *,
        large: bool = False,
    ) -> tuple[Targets | None, Targets | None]:
        """Paste boxes of a set into a share of the pictures, in place; the labels after that."""
        inputs, fit = self._some(len(pictures), share), self._fit(source, labels, large)
        if not len(inputs) or not len(fit):
            return objects, faces
        size = (pictures.shape[2], pictures.shape[1])
        chosen = fit[torch.randint(len(fit), (len(inputs),), generator=self.generator)]
        patches = pasting.place(source, labels, chosen, size, self._uniform, faces=large)
        rendered = self._rendered(source, patches.rows.to(pictures.device), patches.matrices, size)
        places = inputs.to(pictures.device)
        pictures[places] = pasting.blend(pictures[places], rendered, patches.window)
        # Another set may not know all the classes of this one: what its patches show counts for faces alone.
        if objects is not None:
            objects = pasting.add_labels(objects, None if large else source.objects, patches, inputs, size)
        if faces is not None:
            faces = pasting.add_labels(faces, source.faces, patches, inputs, size)
        return objects, faces

    def _fit(self, source: PictureSet, labels: BoxLabels, faces: bool) -> Tensor:
        key = (source.name, faces)
        if key not in self._candidates:
            self._candidates[key] = pasting.candidates(labels, with_landmarks=faces)
        return self._candidates[key]

    def _degrade(self, pictures: Tensor) -> None:
        """Erasing, darkness, blur, noise and JPEG, in place."""
        s, (count, height, width), device = self.settings, pictures.shape[:3], pictures.device
        self._erase(pictures)
        dark, darkness = self._some(count, s.low_light), self._uniform(count)
        blurred = self._some(count, s.blur).to(device)
        squeezed, quality = self._some(count, s.jpeg), self._uniform(count, *JPEG_QUALITY)
        if s.noise or len(dark):
            grain = torch.randn(height, width, 3, generator=self.generator).to(device)
            if len(dark):
                rows = dark.to(device)
                pictures[rows] = degradation.low_light(pictures[rows], grain, darkness[dark].to(device))
        if len(blurred):
            pictures[blurred] = degradation.blur(pictures[blurred])
        if s.noise:
            pictures.copy_(degradation.noise(pictures, grain, self._uniform(count, 0, s.noise).to(device)))
        if len(squeezed):
            rows = squeezed.to(device)
            pictures[rows] = degradation.jpeg(pictures[rows], quality[squeezed])

    def _erase(self, pictures: Tensor) -> None:
        """Cover a random rectangle of some pictures with grey, in place (Zhong et al. 2020)."""
        height, width = pictures.shape[1:3]
        low, high = ERASED_SHARE
        for row in self._some(len(pictures), self.settings.erase).tolist():
            share = self._uniform(4).tolist()
            h, w = int(height * (low + (high - low) * share[0])), int(width * (low + (high - low) * share[1]))
            y, x = int((height - h) * share[2]), int((width - w) * share[3])
            pictures[row, y : y + h, x : x + w] = PADDING_GREY


def _tile(quarters: Tensor) -> Tensor:
    """(4N, h, w, C) -> (N, 2h, 2w, C)."""
    count, h, w, channels = quarters.shape
    grid = quarters.view(count // 4, 2, 2, h, w, channels).permute(0, 1, 3, 2, 4, 5)
    return grid.reshape(count // 4, 2 * h, 2 * w, channels)
