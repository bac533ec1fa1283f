"""The loss of faces and their landmarks."""

from torch import Tensor, nn

from engines.tasks.faces.head import FacesHead
from engines.training.augmentation import MicroBatch
from engines.training.criteria import Learning
from engines.training.losses import Loss, detection_loss
from engines.training.settings import TrainingSettings


class FacesCriterion(nn.Module):
    """See :func:`engines.training.losses.detection_loss`."""

    def forward(self, raw: Tensor, batch: MicroBatch, learning: Learning) -> Loss | None:
        """The loss of what the head gave; None of pictures whose faces nobody labelled."""
        if batch.faces is None:
            return None
        assert isinstance(learning.head, FacesHead) and learning.grid is not None
        return detection_loss(learning.head, raw, learning.grid, batch.faces)


def build(settings: TrainingSettings, classes: int) -> FacesCriterion:
    """The criterion, which learns nothing itself."""
    return FacesCriterion()
