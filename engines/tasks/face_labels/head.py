"""The head of a label of faces."""

from types import SimpleNamespace

from torch import Tensor, nn

from engines.network.features import Features, Grid
from engines.network.trunk import FACE_CELLS
from engines.spec import NetworkSettings
from engines.tasks.base import Task


class FaceLabelHead(nn.Module):
    """A linear layer on an aligned face's last feature map."""

    def __init__(self, settings: NetworkSettings, classes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.linear = nn.Linear(settings.channels[4] * FACE_CELLS, classes)

    def forward(self, features: Features) -> Tensor:
        """The last map (N, C, h, w) -> logits (N, classes)."""
        logits: Tensor = self.linear(self.dropout(features.c5.flatten(1)))
        return logits

    def exported(self, raw: Tensor, grid: Grid | None) -> tuple[Tensor, ...]:
        """Probabilities (N, classes)."""
        return (raw.float().softmax(dim=1),)


def of(task: Task) -> SimpleNamespace:
    """What ``head`` of a task's folder has: ``build(settings, classes)``, a head with fresh weights."""
    return SimpleNamespace(build=FaceLabelHead)
