"""The loss of a label of faces."""

from types import SimpleNamespace

import torch.nn.functional as F
from torch import Tensor, nn

from engines.tasks.base import Task
from engines.training.augmentation import MicroBatch
from engines.training.criteria import Learning
from engines.training.losses import Loss
from engines.training.settings import TrainingSettings


class FaceLabelCriterion(nn.Module):
    """Cross-entropy with label smoothing."""

    def __init__(self, settings: TrainingSettings, classes: int) -> None:
        super().__init__()
        self.smoothing = settings.loss.label_smoothing

    def forward(self, raw: Tensor, batch: MicroBatch, learning: Learning) -> Loss | None:
        """The loss of logits (N, classes)."""
        if batch.labels is None:
            return None
        logits = raw.float()
        right = (logits.argmax(1) == batch.labels).float().mean()
        return Loss(F.cross_entropy(logits, batch.labels, label_smoothing=self.smoothing), {"top1": right})


def of(task: Task) -> SimpleNamespace:
    """What ``loss`` of a task's folder has: ``build(settings, classes)``, a criterion that learns nothing itself."""
    return SimpleNamespace(build=FaceLabelCriterion)
