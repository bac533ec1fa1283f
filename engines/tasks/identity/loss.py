"""The loss of identities."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.training.augmentation import MicroBatch
from engines.training.criteria import Learning
from engines.training.losses import Loss, among
from engines.training.settings import LossSettings, TrainingSettings

QUALITY_WEIGHT = 0.1
MARGIN_RAMP_SHARE = 0.2  # the margin grows over this first share of the run


class IdentityCriterion(nn.Module):
    """A margin between the training identities, and what a teacher says of each face."""

    def __init__(self, embedding: int, identities: int, settings: LossSettings) -> None:
        super().__init__()
        self.settings = settings
        self.cosface = CosFace(embedding, identities, settings.identity_scale, settings.identity_margin)

    def forward(self, raw: tuple[Tensor, Tensor], batch: MicroBatch, learning: Learning) -> Loss | None:
        """The loss of embeddings (N, D) and qualities (N,)."""
        assert batch.labels is not None
        embedding, quality = (each.float() for each in raw)
        ramp = min(1.0, learning.step / max(1.0, MARGIN_RAMP_SHARE * learning.steps))
        found: Loss = self.cosface(embedding, quality, batch.labels, ramp, batch.choices)
        if batch.embeddings is None:
            return found
        return drawn_to(found, embedding, batch.embeddings, self.settings.identity_scale, self.settings.distillation)


def build(settings: TrainingSettings, classes: int) -> IdentityCriterion:
    """The criterion for so many training identities; it learns a centre of each."""
    return IdentityCriterion(settings.network.embedding, classes, settings.loss)


def drawn_to(found: Loss, embedding: Tensor, teacher: Tensor, scale: float, distillation: float) -> Loss:
    """An identity loss and the cosine distance of embeddings (N, D) to a teacher's, all of unit length.

    The distance is multiplied by ``scale``, as the cosines of the other loss are.
    """
    distance = (1 - (embedding * teacher).sum(1)).mean()
    total = (1 - distillation) * found.total + distillation * scale * distance
    return Loss(total, found.parts | {"taught": distance.detach()})


class CosFace(nn.Module):
    """Large-margin cosine loss (Wang et al. 2018) over training identities, and the quality target of CR-FIQA."""

    def __init__(self, embedding: int, identities: int, scale: float, margin: float) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(identities, embedding) * 0.05)
        self.scale = scale
        self.margin = margin

    def forward(
        self, embedding: Tensor, quality: Tensor, labels: Tensor, ramp: float, choices: Tensor | None = None
    ) -> Loss:
        """Loss of unit embeddings (N, D), qualities (N,) and labels (N,); ``ramp`` in [0, 1] scales the margin.

        With ``choices`` (K,), rising, only these identities are told apart: somebody of another set may be one of them.
        """
        centres = self.centres if choices is None else self.centres[choices]
        labels = labels if choices is None else among(labels, choices)
        cosine = embedding @ F.normalize(centres.float(), dim=1).T
        own = F.one_hot(labels, cosine.shape[1]).to(cosine.dtype)
        loss = F.cross_entropy(self.scale * (cosine - self.margin * ramp * own), labels)
        mine = (cosine * own).sum(1).detach()
        other = (cosine.detach() - 2 * own).amax(1)
        ratio = (mine / (other + 1 + 1e-6)).clamp(0, 1)
        gauge = F.smooth_l1_loss(quality, ratio, beta=0.1)
        correct = (cosine.detach().argmax(1) == labels).float().mean()
        return Loss(loss + QUALITY_WEIGHT * gauge, {"class": loss.detach(), "quality": gauge.detach(), "top1": correct})
