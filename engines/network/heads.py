"""The heads: one per task."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engines.network.layers import ConvNorm
from engines.network.neck import Pyramid
from engines.spec import NetworkSettings

STRIDES = (8, 16, 32)
LANDMARKS = 5
PRIOR = 0.01  # initial score of every anchor point (Lin et al. 2017)
MAX_LOG_DISTANCE = 6.0  # exp(6) strides is far more than any input


class DetectionHead(nn.Module):
    """Anchor-free dense predictions at every pyramid level: class logits, box distances and, for faces, landmarks."""

    def __init__(self, settings: NetworkSettings, classes: int, *, landmarks: bool) -> None:
        super().__init__()
        width = settings.neck
        self.landmarks = landmarks
        self.classes = classes
        self.towers = nn.ModuleList(
            nn.Sequential(*(ConvNorm(settings, width, width) for _ in range(settings.towers))) for _ in STRIDES
        )
        outputs = classes + 4 + (2 * LANDMARKS if landmarks else 0)
        self.predict = nn.ModuleList(nn.Conv2d(width, outputs, 1) for _ in STRIDES)
        for layer in self.predict:
            assert isinstance(layer, nn.Conv2d) and layer.bias is not None
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
            nn.init.constant_(layer.bias[:classes], -math.log((1 - PRIOR) / PRIOR))
            nn.init.constant_(layer.bias[classes : classes + 4], math.log(2.0))

    def forward(self, pyramid: Pyramid) -> Tensor:
        """Three maps -> (N, A, classes + 4 [+ 10]): logits, log distances left top right bottom, landmark offsets."""
        maps = (p(t(x)) for p, t, x in zip(self.predict, self.towers, pyramid, strict=True))
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)

    def split(self, raw: Tensor, points: Tensor, strides: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw predictions -> logits (N, A, C), boxes (N, A, 4) xyxy and landmarks (N, A, 5, 2) in input pixels."""
        logits, distances = raw[..., : self.classes], raw[..., self.classes : self.classes + 4]
        reach = distances.clamp(max=MAX_LOG_DISTANCE).exp() * strides[:, None]
        boxes = torch.cat([points - reach[..., :2], points + reach[..., 2:]], dim=-1)
        if not self.landmarks:
            return logits, boxes, None
        offsets = raw[..., self.classes + 4 :].reshape(*raw.shape[:2], LANDMARKS, 2)
        return logits, boxes, points[:, None] + offsets * strides[:, None, None]


class SceneHead(nn.Module):
    """A linear layer on features pooled at strides 16 and 32."""

    def __init__(self, settings: NetworkSettings, scenes: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(settings.dropout)
        self.linear = nn.Linear(settings.channels[3] + settings.channels[4], scenes)

    def forward(self, c4: Tensor, c5: Tensor) -> Tensor:
        """Features -> logits (N, scenes)."""
        pooled = torch.cat([c4.mean((2, 3)), c5.mean((2, 3))], dim=1)
        logits: Tensor = self.linear(self.dropout(pooled))
        return logits


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

    def forward(self, c5: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, h, w) -> unit embedding (N, D) and quality (N,) in [0, 1]."""
        flat = c5.flatten(1)
        embedding = F.normalize(self.norm(self.linear(self.dropout(flat))).float(), dim=1)
        # Quality must not steer the features: it only reads them.
        return embedding, torch.sigmoid(self.quality(flat.detach()).squeeze(1).float())
