"""The head of identities."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.network.features import Features, Grid
from engines.network.trunk import FACE_CELLS
from engines.spec import NetworkSettings


class IdentityHead(nn.Module):
    """An aligned face's last feature map -> embedding and quality.

    The quality is trained to the certainty ratio of CR-FIQA (Boutros et al. 2023).
    """

    def __init__(self, settings: NetworkSettings, cells: int) -> None:
        super().__init__()
        features = settings.channels[4] * cells
        self.dropout = nn.Dropout(settings.dropout)
        self.linear = nn.Linear(features, settings.embedding, bias=False)
        self.norm = nn.BatchNorm1d(settings.embedding)
        self.quality = nn.Linear(features, 1)
        nn.init.zeros_(self.quality.weight)

    def forward(self, features: Features) -> tuple[Tensor, Tensor]:
        """The last map (N, C, h, w) -> unit embedding (N, D) and quality (N,) in [0, 1]."""
        flat = features.c5.flatten(1)
        embedding = F.normalize(self.norm(self.linear(self.dropout(flat))).float(), dim=1)
        # Quality must not steer the features: it only reads them.
        return embedding, torch.sigmoid(self.quality(flat.detach()).squeeze(1).float())

    def exported(self, raw: tuple[Tensor, Tensor], grid: Grid | None) -> tuple[Tensor, ...]:
        """Embedding (N, D) and quality (N,)."""
        embedding, quality = raw
        return F.normalize(embedding, dim=1), quality  # a mean of two is shorter


def build(settings: NetworkSettings, classes: int) -> IdentityHead:
    """A head with fresh weights; how many people there are to learn is its loss' business."""
    return IdentityHead(settings, FACE_CELLS)
