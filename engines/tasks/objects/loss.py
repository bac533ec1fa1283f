"""The loss of objects."""

from torch import Tensor, nn

from engines.tasks.objects.head import ObjectsHead
from engines.training.augmentation import MicroBatch
from engines.training.criteria import Learning
from engines.training.losses import Loss, detection_loss
from engines.training.settings import TrainingSettings


class ObjectsCriterion(nn.Module):
    """See :func:`engines.training.losses.detection_loss`."""

    def forward(self, raw: Tensor, batch: MicroBatch, learning: Learning) -> Loss | None:
        """The loss of what the head gave; None of pictures whose objects nobody labelled."""
        if batch.objects is None:
            return None
        assert isinstance(learning.head, ObjectsHead) and learning.grid is not None
        return detection_loss(learning.head, raw, learning.grid, batch.objects)


def build(settings: TrainingSettings, classes: int) -> ObjectsCriterion:
    """The criterion, which learns nothing itself."""
    return ObjectsCriterion()
