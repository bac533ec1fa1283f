"""Labels of a micro-batch, and how they move with its pictures."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engines.training.datasets import BoxLabels

MIN_VISIBLE = 0.35  # a box that keeps less of its area is ignored
MIN_SIDE_PX = 3.0
MIRRORED = [1, 0, 2, 4, 3]  # landmarks after a flip


@dataclass(frozen=True, slots=True)
class Targets:
    """Boxes of a micro-batch in input pixels, padded to B; see BoxLabels."""

    boxes: Tensor  # (N, B, 4)
    classes: Tensor  # (N, B), -1 for padding
    ignore: Tensor  # (N, B)
    landmarks: Tensor | None  # (N, B, 5, 2)
    has_landmarks: Tensor | None  # (N, B)
    only_near: bool
    known: Tensor | None = None  # (N, C), one row a picture
    scores: Tensor | None = None  # (N, B)

    def each(self, change: Callable[[Tensor], Tensor]) -> "Targets":
        """The same labels with every (N, B, ...) tensor changed alike."""
        return replace(
            self,
            boxes=change(self.boxes),
            classes=change(self.classes),
            ignore=change(self.ignore),
            landmarks=None if self.landmarks is None else change(self.landmarks),
            has_landmarks=None if self.has_landmarks is None else change(self.has_landmarks),
            scores=None if self.scores is None else change(self.scores),
        )


def move(labels: BoxLabels, rows: Tensor, matrices: Tensor, flipped: Tensor, window: Tensor) -> Targets:
    """Labels of rows in input pixels: clipped, and those that are hardly to be seen removed or ignored.

    Args:
        labels: of a whole set, canvas pixels.
        rows: (N,) which of its pictures.
        matrices: (N, 2, 3) canvas -> input pixels.
        flipped: (N,) bool, whether a matrix mirrors.
        window: (N, 4) xyxy, what of the input shows the picture.
    """
    boxes, classes, ignore = labels.boxes[rows], labels.classes[rows], labels.ignore[rows]
    x0, y0, x1, y1 = boxes.unbind(-1)
    corners = torch.stack([torch.stack([x, y], -1) for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1))], 2)
    moved = _apply(corners, matrices)
    # A turned box's hull grows; take the mean of hull and inscribed extents, which follows the object better.
    centre, reach = moved.mean(2), (moved - moved.mean(2, keepdim=True)).abs().mean(2)
    whole = torch.cat([centre - reach, centre + reach], -1)
    clipped = clip(whole, window)
    sides = clipped[..., 2:] - clipped[..., :2]
    classes = torch.where((sides < MIN_SIDE_PX).any(-1), torch.full_like(classes, -1), classes)
    ignore = ignore | (area(clipped) < MIN_VISIBLE * area(whole))
    known, scores = (None if x is None else x[rows] for x in (labels.known, labels.scores))
    if labels.landmarks is None or labels.has_landmarks is None:
        return Targets(clipped, classes, ignore, None, None, labels.only_near, known, scores)
    points = _apply(labels.landmarks[rows], matrices)
    points = torch.where(flipped[:, None, None, None], points[:, :, MIRRORED], points)
    return Targets(clipped, classes, ignore, points, labels.has_landmarks[rows], labels.only_near, known, scores)


def clip(boxes: Tensor, window: Tensor) -> Tensor:
    """Boxes (N, B, 4) cut to a window (N, 4) each; one that lies outside has no area."""
    low, high = window[:, None, :2], window[:, None, 2:]
    return torch.cat([end.maximum(low).minimum(high) for end in (boxes[..., :2], boxes[..., 2:])], -1)


def area(boxes: Tensor) -> Tensor:
    """Areas of boxes (..., 4) xyxy."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def _apply(points: Tensor, matrices: Tensor) -> Tensor:
    """(N, B, K, 2) points through (N, 2, 3) matrices."""
    return torch.einsum("nij,nbkj->nbki", matrices[:, :, :2], points) + matrices[:, None, None, :, 2]


def tile(targets: Targets, size: tuple[int, int]) -> Targets:
    """Labels of quarters (4N, B) of ``size`` (width, height) pixels -> of mosaics (N, 4B).

    A class is known in a mosaic where it is in all its quarters.
    """
    device = targets.boxes.device
    quarter = torch.arange(targets.boxes.shape[0], device=device) % 4
    shift = torch.stack([quarter % 2, quarter // 2], 1) * torch.tensor(size, device=device).float()
    moved = replace(
        targets,
        boxes=targets.boxes + shift.repeat(1, 2)[:, None],
        landmarks=None if targets.landmarks is None else targets.landmarks + shift[:, None, None],
        known=None if targets.known is None else targets.known.view(-1, 4, targets.known.shape[1]).all(1),
    )
    return moved.each(lambda x: x.reshape(x.shape[0] // 4, 4 * x.shape[1], *x.shape[2:]))


def trim(targets: Targets) -> Targets:
    """Real rows first, and only as many columns as the fullest picture needs."""
    real = targets.classes >= 0
    most = max(1, int(real.sum(1).max()))
    order = real.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :most]

    def picked(values: Tensor) -> Tensor:
        index = order.view(*order.shape, *(1,) * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)

    return targets.each(picked)
