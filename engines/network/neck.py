"""The neck: a light additive path aggregation network (Liu et al. 2018) over strides 8, 16 and 32."""

import torch.nn.functional as F
from torch import Tensor, nn

from engines.network.layers import ConvNorm
from engines.spec import NetworkSettings

Pyramid = tuple[Tensor, Tensor, Tensor]


class Neck(nn.Module):
    """Top-down, then bottom-up; levels are added, not concatenated."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        width = settings.neck
        self.lateral = nn.ModuleList(ConvNorm(settings, c, width, kernel=1) for c in settings.channels[2:])
        self.top_down = nn.ModuleList(ConvNorm(settings, width, width) for _ in range(2))
        self.down = nn.ModuleList(ConvNorm(settings, width, width, stride=2) for _ in range(2))
        self.bottom_up = nn.ModuleList(ConvNorm(settings, width, width) for _ in range(2))

    def forward(self, features: Pyramid) -> Pyramid:
        """Trunk features -> three maps (N, neck, H/8|16|32, W/8|16|32)."""
        l3, l4, l5 = (lateral(x) for lateral, x in zip(self.lateral, features, strict=True))
        t4 = self.top_down[0](l4 + F.interpolate(l5, scale_factor=2.0, mode="nearest"))
        p3 = self.top_down[1](l3 + F.interpolate(t4, scale_factor=2.0, mode="nearest"))
        p4 = self.bottom_up[0](t4 + self.down[0](p3))
        p5 = self.bottom_up[1](l5 + self.down[1](p4))
        return p3, p4, p5
