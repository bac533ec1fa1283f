"""What the losses of tasks are made of, in fp32."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from engines.network.detection_head import DetectionHead
from engines.network.features import Grid
from engines.training.assignment import assign
from engines.training.targets import Targets

FOCUS = 2.0  # beta of the quality focal loss
BOX_WEIGHT, LANDMARK_WEIGHT = 2.0, 1.0


class Loss(NamedTuple):
    """One task's loss and its parts for the log."""

    total: Tensor
    parts: dict[str, Tensor]


def joined(one: Loss | None, other: Loss) -> Loss:
    """The sum of two losses of a task, of which there may be one alone."""
    return other if one is None else Loss(one.total + other.total, {**one.parts, **other.parts})


def quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    """Element-wise quality focal loss (Li et al. 2020) of logits against soft targets in [0, 1]."""
    gap = (logits.detach().sigmoid() - target).abs().pow(FOCUS)
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none") * gap


def giou(a: Tensor, b: Tensor) -> Tensor:
    """Generalised IoU (Rezatofighi et al. 2019) of boxes (K, 4) xyxy, pair by pair -> (K,)."""
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - overlap
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    return overlap / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def detection_loss(head: DetectionHead, raw: Tensor, grid: Grid, targets: Targets) -> Loss:
    """Class, box and landmark loss of one detection head; normalised by the sum of the positives' quality.

    Classes that are not labelled in a picture have no class loss there, but for the boxes of such a class that it
    has. What a machine drew counts by its score, which is also what the network's own should be at the most.
    """
    logits, boxes, landmarks = head.split(raw.float(), grid)
    given = assign(logits.sigmoid(), boxes, grid.points, targets)
    row, anchor = given.positive.nonzero(as_tuple=True)
    owner, quality = given.box[row, anchor], given.quality[row, anchor]
    if targets.scores is not None:
        quality = quality * targets.scores[row, owner]
    wanted, label = torch.zeros_like(logits), targets.classes[row, owner]
    wanted[row, anchor, label] = quality
    scale = quality.sum().clamp(min=1.0)
    counted = given.counted[..., None]
    if targets.known is not None:
        counted = (counted & targets.known[:, None]).index_put(
            (row, anchor, label), torch.tensor(True, device=row.device)
        )
    score_loss = (quality_focal(logits, wanted) * counted).sum() / scale
    box_loss = ((1 - giou(boxes[row, anchor], targets.boxes[row, owner])) * quality).sum() / scale
    parts = {"class": score_loss.detach(), "box": box_loss.detach()}
    total = score_loss + BOX_WEIGHT * box_loss
    if landmarks is not None and targets.landmarks is not None and targets.has_landmarks is not None:
        box = targets.boxes[row, owner]
        size = (box[:, 2:] - box[:, :2]).mean(-1).clamp(min=4.0)[:, None, None]
        gap = (landmarks[row, anchor] - targets.landmarks[row, owner]) / size
        each = F.smooth_l1_loss(gap, torch.zeros_like(gap), reduction="none", beta=0.02).sum((1, 2))
        known = quality * targets.has_landmarks[row, owner]
        point_loss = (each * known).sum() / known.sum().clamp(min=1.0)
        parts["landmarks"] = point_loss.detach()
        total = total + LANDMARK_WEIGHT * point_loss
    return Loss(total, parts)


def among(labels: Tensor, choices: Tensor) -> Tensor:
    """Labels (N,) as places among the ``choices`` (K,), rising, of which each is one."""
    return torch.searchsorted(choices, labels)
