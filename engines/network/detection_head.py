"""What the heads of boxes have in common: towers over the pyramid, and dense predictions at every point of it."""

import math

import torch
from torch import Tensor, nn

from engines.network.features import STRIDES, Features, Grid
from engines.network.layers import ConvNorm
from engines.spec import NetworkSettings

LANDMARKS = 5
PRIOR = 0.01  # initial score of every anchor point (Lin et al. 2017)
MAX_LOG_DISTANCE = 6.0  # exp(6) strides is far more than any input


class DetectionHead(nn.Module):
    """Anchor-free dense predictions at every pyramid level: class logits, box distances and, for faces, landmarks.

    With a ``class_width``, logits come from a last convolution of their own, that wide, beside the one that boxes
    come from (after Ge et al. 2021, who part all of them).
    """

    def __init__(
        self, settings: NetworkSettings, classes: int, *, landmarks: bool, class_width: int | None = None
    ) -> None:
        super().__init__()
        width = settings.neck
        self.landmarks = landmarks
        self.classes = classes
        self.towers = nn.ModuleList(
            nn.Sequential(*(ConvNorm(settings, width, width) for _ in range(settings.towers))) for _ in STRIDES
        )
        joined = classes if class_width is None else 0
        outputs = joined + 4 + (2 * LANDMARKS if landmarks else 0)
        self.predict = nn.ModuleList(nn.Conv2d(width, outputs, 1) for _ in STRIDES)
        for layer in self.predict:
            _begin(layer, joined)
        self.class_towers, self.scores = nn.ModuleList(), nn.ModuleList()
        for _ in STRIDES if class_width is not None else ():
            assert class_width is not None
            self.class_towers.append(ConvNorm(settings, width, class_width))
            self.scores.append(nn.Conv2d(class_width, classes, 1))
            _begin(self.scores[-1], classes)

    def forward(self, features: Features) -> Tensor:
        """The pyramid -> (N, A, classes + 4 [+ 10]): logits, log distances left top right bottom, landmark offsets."""
        assert features.pyramid is not None
        maps = (self._level(level, x) for level, x in enumerate(features.pyramid))
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)

    def _level(self, level: int, x: Tensor) -> Tensor:
        tower, predict = self.towers[level], self.predict[level]
        if not self.scores:
            return predict(tower(x))  # type: ignore[no-any-return]  # nn.Module's
        assert isinstance(tower, nn.Sequential)
        shared = tower[:-1](x)
        scores = self.scores[level](self.class_towers[level](shared))
        return torch.cat([scores, predict(tower[-1](shared))], dim=1)

    def split(self, raw: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor | None]:
        """Raw predictions -> logits (N, A, C), boxes (N, A, 4) xyxy and landmarks (N, A, 5, 2) in input pixels."""
        points, strides, _ = grid
        logits, distances = raw[..., : self.classes], raw[..., self.classes : self.classes + 4]
        reach = distances.clamp(max=MAX_LOG_DISTANCE).exp() * strides[:, None]
        boxes = torch.cat([points - reach[..., :2], points + reach[..., 2:]], dim=-1)
        if not self.landmarks:
            return logits, boxes, None
        offsets = raw[..., self.classes + 4 :].reshape(*raw.shape[:2], LANDMARKS, 2)
        return logits, boxes, points[:, None] + offsets * strides[:, None, None]


def rows_of(values: Tensor, rows: Tensor) -> Tensor:
    """The rows (N, K) of values (N, A, V): (N, K, V)."""
    return values.gather(1, rows[..., None].expand(-1, -1, values.shape[-1]))


def _begin(layer: nn.Module, classes: int) -> None:
    """Start a layer of so many classes' logits, then distances and offsets, near PRIOR and boxes of four strides."""
    assert isinstance(layer, nn.Conv2d) and layer.bias is not None
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    nn.init.constant_(layer.bias[:classes], -math.log((1 - PRIOR) / PRIOR))
    nn.init.constant_(layer.bias[classes : classes + 4], math.log(2.0))
