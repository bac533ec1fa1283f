"""The loss of scenes."""

import torch.nn.functional as F
from torch import Tensor, nn

from engines.training.augmentation import MicroBatch
from engines.training.criteria import Learning
from engines.training.losses import Loss, among
from engines.training.settings import LossSettings, TrainingSettings


class SceneCriterion(nn.Module):
    """Cross-entropy with the labels, among those that the set tells apart, and with what a teacher says."""

    def __init__(self, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, raw: Tensor, batch: MicroBatch, learning: Learning) -> Loss | None:
        """The loss of logits (N, S); None where neither labels nor a teacher say anything."""
        labels = batch.labels
        if labels is None and batch.scene_targets is None:
            return None
        if labels is not None and batch.choices is not None:
            raw, labels = raw[:, batch.choices], among(labels, batch.choices)
        smoothing, distillation = self.settings.label_smoothing, self.settings.distillation
        return scene_loss(raw.float(), labels, batch.scene_targets, smoothing, distillation)


def build(settings: TrainingSettings, classes: int) -> SceneCriterion:
    """The criterion, which learns nothing itself."""
    return SceneCriterion(settings.loss)


def scene_loss(
    logits: Tensor, labels: Tensor | None, targets: Tensor | None, smoothing: float, distillation: float
) -> Loss:
    """Cross-entropy of logits (N, S) with labels (N,), and with a teacher's probabilities (N, S) where there are any.

    The teacher's part counts ``distillation`` and the labels' the rest (Hinton et al. 2015, at temperature 1).
    """
    parts, total = {}, logits.new_zeros(())
    if labels is not None:
        total = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        parts["top1"] = (logits.argmax(1) == labels).float().mean()
    if targets is not None:
        taught = F.cross_entropy(logits, targets)
        parts["taught"] = taught.detach()
        total = distillation * taught + (1 - distillation) * total
    return Loss(total, parts)
