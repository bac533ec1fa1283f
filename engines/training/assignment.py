"""Task-aligned assignment of anchor points to boxes (TOOD, Feng et al. 2021)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from engines.training.targets import Targets

ALPHA, BETA = 0.5, 6.0  # weight of the score and of the overlap
CANDIDATES = 10  # anchor points per box
NEAR = 0.5  # background around an only_near box is known up to this share of its size


@dataclass(frozen=True, slots=True)
class Assignment:
    """What each anchor point should say."""

    positive: Tensor  # (N, A) bool
    box: Tensor  # (N, A) int64, row of the assigned box
    quality: Tensor  # (N, A) float in [0, 1], the soft class target
    counted: Tensor  # (N, A) bool: takes part in the class loss


def pair_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of boxes (N, B, 4) with boxes (N, A, 4) -> (N, B, A)."""
    low = torch.maximum(a[:, :, None, :2], b[:, None, :, :2])
    high = torch.minimum(a[:, :, None, 2:], b[:, None, :, 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    areas = [(x[..., 2:] - x[..., :2]).clamp(min=0).prod(-1) for x in (a, b)]
    return overlap / (areas[0][:, :, None] + areas[1][:, None, :] - overlap + 1e-7)


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, points: Tensor, targets: Targets) -> Assignment:
    """Assign anchor points to targets.

    Args:
        scores: (N, A, C) predicted scores in [0, 1].
        boxes: (N, A, 4) predicted boxes, xyxy input pixels.
        points: (A, 2) anchor points, input pixels.
        targets: the labels.
    """
    real = (targets.classes >= 0) & ~targets.ignore  # (N, B)
    inside = _inside(points, targets.boxes) & real[..., None]  # (N, B, A)
    overlap = pair_iou(targets.boxes, boxes)
    wanted = targets.classes.clamp(min=0)[..., None].expand(-1, -1, boxes.shape[1])
    score = scores.transpose(1, 2).gather(1, wanted)
    metric = score.pow(ALPHA) * overlap.pow(BETA) * inside
    best, rows = metric.topk(min(CANDIDATES, metric.shape[-1]), dim=-1)
    chosen = torch.zeros_like(metric, dtype=torch.bool).scatter_(2, rows, best > 1e-9)
    # An anchor point inside several boxes goes to the one it overlaps most.
    owner = torch.where(chosen, overlap, torch.full_like(overlap, -1.0)).argmax(1)
    chosen &= torch.zeros_like(chosen).scatter_(1, owner[:, None], torch.ones_like(owner, dtype=torch.bool)[:, None])
    metric = metric * chosen
    peak_metric, peak_overlap = metric.amax(-1, keepdim=True), (overlap * chosen).amax(-1, keepdim=True)
    quality = (metric / (peak_metric + 1e-9) * peak_overlap).amax(1)
    positive = chosen.any(1)
    return Assignment(positive, owner, quality, positive | _background(points, targets))


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Which points (A, 2) lie in which boxes (N, B, 4) -> (N, B, A)."""
    return ((points > boxes[:, :, None, :2]) & (points < boxes[:, :, None, 2:])).all(-1)


def _background(points: Tensor, targets: Targets) -> Tensor:
    """Points (N, A) that are known to be background unless assigned."""
    ignored = targets.ignore & (targets.classes >= 0)
    hidden = (_inside(points, targets.boxes) & ignored[..., None]).any(1)
    if not targets.only_near:
        return ~hidden
    margin = (targets.boxes[..., 2:] - targets.boxes[..., :2]) * NEAR
    grown = torch.cat([targets.boxes[..., :2] - margin, targets.boxes[..., 2:] + margin], -1)
    near = (_inside(points, grown) & (targets.classes >= 0)[..., None]).any(1)
    return near & ~hidden
