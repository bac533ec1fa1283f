"""The loss of masks."""

import torch.nn.functional as F
from torch import Tensor, nn

from engines.training.augmentation import MicroBatch
from engines.training.criteria import Learning
from engines.training.losses import Loss
from engines.training.settings import TrainingSettings


class MaskCriterion(nn.Module):
    """Cross-entropy with label smoothing."""

    def __init__(self, smoothing: float) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, raw: Tensor, batch: MicroBatch, learning: Learning) -> Loss | None:
        """The loss of logits (N, classes)."""
        if batch.labels is None:
            return None
        logits = raw.float()
        right = (logits.argmax(1) == batch.labels).float().mean()
        return Loss(F.cross_entropy(logits, batch.labels, label_smoothing=self.smoothing), {"top1": right})


def build(settings: TrainingSettings, classes: int) -> MaskCriterion:
    """The criterion, which learns nothing itself."""
    return MaskCriterion(settings.loss.label_smoothing)
