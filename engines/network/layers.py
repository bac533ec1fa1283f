"""The building block of trunk, neck and heads: a convolution with one normalisation per entry."""

import torch
from torch import Tensor, nn

from engines.spec import Activation, EntryName, NetworkSettings

GROUP_SIZE = 16  # least channels per group of group normalisation (Wu & He 2018)


def activation(name: Activation) -> nn.Module:
    """The activation of this name."""
    match name:
        case "relu":
            return nn.ReLU(inplace=True)
        case "silu":
            return nn.SiLU(inplace=True)
        case "hardswish":
            return nn.Hardswish(inplace=True)


def normalisation(settings: NetworkSettings, channels: int) -> nn.Module:
    """The normalisation that the settings name."""
    if settings.normalisation == "group":
        most = max(1, channels // GROUP_SIZE)
        return nn.GroupNorm(next(groups for groups in range(most, 0, -1) if channels % groups == 0), channels)
    return nn.BatchNorm2d(channels, momentum=0.03, eps=1e-3)


class ConvNorm(nn.Module):
    """Convolution, the entry's normalisation, activation.

    The convolution is shared by the entries; each entry has its own normalisation, since aligned faces and whole
    frames have different statistics (domain-specific batch normalisation, Chang et al. 2019).
    """

    def __init__(
        self,
        settings: NetworkSettings,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        entries: tuple[EntryName, ...] = ("frame",),
        activate: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norms = nn.ModuleDict({entry: normalisation(settings, outputs) for entry in entries})
        self.act = activation(settings.activation) if activate else nn.Identity()
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor, entry: EntryName = "frame") -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y: Tensor = self.act(self.norms[entry](self.conv(x)))
        return y


class ResidualBlock(nn.Module):
    """Two dense 3x3 convolutions and the identity (He et al. 2016)."""

    def __init__(self, settings: NetworkSettings, channels: int, entries: tuple[EntryName, ...] = ("frame",)) -> None:
        super().__init__()
        self.first = ConvNorm(settings, channels, channels, entries=entries)
        self.second = ConvNorm(settings, channels, channels, entries=entries, activate=False)
        self.act = activation(settings.activation)
        self._start_as_identity()

    def _start_as_identity(self) -> None:
        for norm in self.second.norms.values():
            assert isinstance(norm, nn.BatchNorm2d | nn.GroupNorm)
            nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor, entry: EntryName = "frame") -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        y: Tensor = self.act(x + self.second(self.first(x, entry), entry))
        return y


def normalise_pixels(images: Tensor) -> Tensor:
    """uint8 RGB (N, H, W, 3) -> float (N, 3, H, W), about zero mean and unit variance."""
    return (images.permute(0, 3, 1, 2).to(torch.float32) - 127.5) * (1.0 / 64.0)
