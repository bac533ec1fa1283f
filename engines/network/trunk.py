"""The trunk: the convolutional stages that every task and both entries share."""

from torch import Tensor, nn

from engines.alignment import SIZE as FACE_SIZE
from engines.network.layers import ConvNorm, ResidualBlock
from engines.spec import EntryName, NetworkSettings

FACE_CELLS = (-(-FACE_SIZE // 32)) ** 2  # of an aligned face's last map


class TrunkStage(nn.Module):
    """Halve the resolution, then residual blocks."""

    def __init__(self, settings: NetworkSettings, inputs: int, outputs: int, depth: int) -> None:
        super().__init__()
        self.down = ConvNorm(settings, inputs, outputs, stride=2, entries=settings.entries)
        self.blocks = nn.ModuleList(ResidualBlock(settings, outputs, settings.entries) for _ in range(depth))

    def forward(self, x: Tensor, entry: EntryName) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H/2, W/2)."""
        x = self.down(x, entry)
        for block in self.blocks:
            x = block(x, entry)
        return x


class Trunk(nn.Module):
    """Stem at stride 2 and four stages at strides 4, 8, 16 and 32."""

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        c = settings.channels
        self.stem = ConvNorm(settings, 3, c[0], stride=2, entries=settings.entries)
        self.stages = nn.ModuleList(TrunkStage(settings, c[i], c[i + 1], settings.depths[i]) for i in range(4))

    def forward(self, pixels: Tensor, entry: EntryName) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised pixels (N, 3, H, W) -> features at strides 8, 16 and 32."""
        x = self.stages[0](self.stem(pixels, entry), entry)
        c3 = self.stages[1](x, entry)
        c4 = self.stages[2](c3, entry)
        c5 = self.stages[3](c4, entry)
        return c3, c4, c5
