"""The head of scenes."""

import torch
from torch import Tensor, nn

from engines.network.features import Features, Grid
from engines.spec import NetworkSettings


class SceneHead(nn.Module):
    """A linear layer on features pooled at strides 16 and 32."""

    def __init__(self, settings: NetworkSettings, scenes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.linear = nn.Linear(settings.channels[3] + settings.channels[4], scenes)

    def forward(self, features: Features) -> Tensor:
        """Features -> logits (N, scenes)."""
        pooled = torch.cat([features.c4.mean((2, 3)), features.c5.mean((2, 3))], dim=1)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits

    def exported(self, raw: Tensor, grid: Grid | None) -> tuple[Tensor, ...]:
        """Probabilities (N, scenes)."""
        return (raw.float().softmax(dim=1),)


def build(settings: NetworkSettings, classes: int) -> SceneHead:
    """A head with fresh weights."""
    return SceneHead(settings, classes)
