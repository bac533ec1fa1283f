"""Cutting boxes out of other pictures and pasting them in with a feathered edge, pixels and labels alike.

After Ghiasi et al., "Simple Copy-Paste is a Strong Data Augmentation Method", CVPR 2021, with boxes in place of masks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from engines.training.datasets import BoxLabels, PictureSet
from engines.training.targets import Targets, area, clip, move

MIN_PATCH_PX = 32.0  # shorter side on the canvas; a smaller patch would only be a blur
FEATHER = 0.06  # of a patch's shorter side
HIDDEN, COVERED = 0.9, 0.65  # of a box under a patch: from here on it is gone, or ignored
FACE_MARGIN = 0.3  # of the face's size, around it: hair and chin come along
OBJECT_MARGIN = 0.05
FACE_SHARE = (0.3, 0.75)  # a pasted face's size of the input's side
OBJECT_ZOOM = (0.6, 1.5)  # a pasted object's size of what it would have in its own picture
LARGEST = 0.6  # of the input's side


@dataclass(frozen=True, slots=True)
class Patches:
    """K patches and where they go."""

    rows: Tensor  # (K,) pictures of the set that they are cut from
    matrices: Tensor  # (K, 2, 3) its canvas -> input pixels
    flipped: Tensor  # (K,) bool
    window: Tensor  # (K, 4) xyxy input pixels, where they show


def candidates(labels: BoxLabels, *, with_landmarks: bool) -> Tensor:
    """(M, 2) picture and column of the boxes that are worth pasting."""
    sides = (labels.boxes[..., 2:] - labels.boxes[..., :2]).amin(-1)
    fit = (labels.classes >= 0) & ~labels.ignore & (sides >= MIN_PATCH_PX)
    if with_landmarks and labels.has_landmarks is not None:
        fit &= labels.has_landmarks
    return fit.nonzero().cpu()


def place(
    data: PictureSet,
    labels: BoxLabels,
    chosen: Tensor,
    size: tuple[int, int],
    uniform: Callable[[int], Tensor],
    *,
    faces: bool,
) -> Patches:
    """Cut out the ``chosen`` (K, 2) boxes of a set and spread them over inputs of ``size`` pixels.

    Args:
        data: the set.
        labels: its faces or objects.
        chosen: rows of :func:`candidates`.
        size: width and height of the inputs, pixels.
        uniform: draws that many numbers in [0, 1).
        faces: large, with hair and chin; else as large as the objects are.
    """
    count, rows = len(chosen), chosen[:, 0]
    index = rows.to(labels.boxes.device)
    box, extent = labels.boxes[index, chosen[:, 1].to(index.device)].cpu(), data.extents[index].cpu()
    longest, frame = (box[:, 2:] - box[:, :2]).amax(1), torch.tensor(size, dtype=torch.float32)
    side = min(size)
    margin = longest[:, None] * (FACE_MARGIN if faces else OBJECT_MARGIN)
    low, high = (box[:, :2] - margin).clamp(min=0), torch.minimum(box[:, 2:] + margin, extent)
    if faces:
        zoom = side * (FACE_SHARE[0] + (FACE_SHARE[1] - FACE_SHARE[0]) * uniform(count)) / longest
    else:
        own = (frame / extent).amin(1)  # the letterbox's scale
        zoom = own * (OBJECT_ZOOM[0] + (OBJECT_ZOOM[1] - OBJECT_ZOOM[0]) * uniform(count))
        zoom = torch.minimum(zoom, LARGEST * side / (high - low).amax(1))
    flipped = uniform(count) < 0.5
    centre = torch.stack([uniform(count), uniform(count)], 1)
    half = (high - low) / 2 * zoom[:, None]
    # Inside the input where it fits.
    centre = torch.where(2 * half < frame, half + centre * (frame - 2 * half), frame * (0.35 + 0.3 * centre))
    signed = torch.stack([torch.where(flipped, -zoom, zoom), zoom], 1)
    shift = centre - signed * (low + high) / 2
    matrices = torch.cat([torch.diag_embed(signed), shift[..., None]], 2)
    return Patches(rows, matrices, flipped, torch.cat([centre - half, centre + half], 1))


def blend(pictures: Tensor, patches: Tensor, window: Tensor) -> Tensor:
    """Pictures and patches, both (K, H, W, 3) uint8: the patches inside their windows, fading at the edges."""
    feather = FEATHER * (window[:, 2:] - window[:, :2]).amin(1).clamp(min=8)[:, None]

    def inside(low: Tensor, high: Tensor, length: int) -> Tensor:
        axis = torch.arange(length, device=window.device) + 0.5
        depth = torch.minimum(axis - low[:, None], high[:, None] - axis)  # (K, length)
        return (depth / feather).clamp(0, 1).to(pictures.device)

    across = inside(window[:, 0], window[:, 2], pictures.shape[2])
    down = inside(window[:, 1], window[:, 3], pictures.shape[1])
    alpha = (down[:, :, None] * across[:, None])[..., None]
    return torch.lerp(pictures.float(), patches.float(), alpha).round_().to(torch.uint8)


def add_labels(
    targets: Targets, labels: BoxLabels | None, patches: Patches, inputs: Tensor, size: tuple[int, int]
) -> Targets:
    """Labels of a micro-batch after patches were pasted into the pictures ``inputs`` (K,).

    Args:
        targets: one task's labels before.
        labels: that task's labels of the set that the patches are from; where it has none, what a patch shows is
            neither object nor background.
        patches: the patches.
        inputs: which pictures they went to.
        size: width and height of the pictures, pixels.
    """
    device = targets.boxes.device
    window, inputs = patches.window.to(device), inputs.to(device)
    under = area(clip(targets.boxes[inputs], window)) / area(targets.boxes[inputs]).clamp(min=1e-6)
    classes, ignore = targets.classes.clone(), targets.ignore.clone()
    classes[inputs] = torch.where(under > HIDDEN, -1, classes[inputs])
    ignore[inputs] |= under > COVERED
    covered = replace(targets, classes=classes, ignore=ignore)
    seen = window.clamp(min=0).minimum(torch.tensor([*size, *size], device=device))
    if labels is None:
        added = _unknown(targets, seen)
    else:
        matrices, flipped = patches.matrices.to(device), patches.flipped.to(device)
        added = move(labels, patches.rows.to(device), matrices, flipped, seen)
    return _joined(covered, added, inputs)


def _unknown(like: Targets, window: Tensor) -> Targets:
    """One ignored box a patch (K, 1)."""
    count, device = len(window), window.device
    points = None if like.landmarks is None else torch.zeros(count, 1, 5, 2, device=device)
    present = None if like.has_landmarks is None else torch.zeros(count, 1, dtype=torch.bool, device=device)
    classes = torch.zeros(count, 1, dtype=torch.int64, device=device)
    ignore = torch.ones(count, 1, dtype=torch.bool, device=device)
    return Targets(window[:, None], classes, ignore, points, present, like.only_near)


def _joined(targets: Targets, added: Targets, inputs: Tensor) -> Targets:
    """Targets (N, B) and the added (K, A) of some of their pictures -> (N, B + A)."""

    def join(own: Tensor, more: Tensor | None, padding: int) -> Tensor:
        wide = own.new_full((own.shape[0], added.boxes.shape[1], *own.shape[2:]), padding)
        if more is not None:
            wide[inputs] = more
        return torch.cat([own, wide], 1)

    return replace(
        targets,
        boxes=join(targets.boxes, added.boxes, 0),
        classes=join(targets.classes, added.classes, -1),
        ignore=join(targets.ignore, added.ignore, 0),
        landmarks=None if targets.landmarks is None else join(targets.landmarks, added.landmarks, 0),
        has_landmarks=(None if targets.has_landmarks is None else join(targets.has_landmarks, added.has_landmarks, 0)),
        scores=None if targets.scores is None else join(targets.scores, added.scores, 1),
    )
