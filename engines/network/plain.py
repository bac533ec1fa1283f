"""The plain convolutional network that many multi-task articles start from."""

from typing import Annotated, Literal

import msgspec
from torch import Tensor, nn

from engines.network.layers import activation, normalise_pixels
from engines.spec import Activation, Positive, Share

Block = Annotated[tuple[Positive, ...], msgspec.Meta(min_length=1)]


class PlainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The shape of the network."""

    size: Positive = 28  # side of the square input, pixels
    blocks: tuple[Block, ...] = ((32,), (64,))  # channels of the 3x3 convolutions of each; its end halves the picture
    dense: Positive = 128  # values between the two fully connected layers
    activation: Activation = "relu"
    normalisation: Literal["none", "batch"] = "none"
    dropout: Share = 0.0  # before the last layer

    def __post_init__(self) -> None:
        if self.size < 2 ** len(self.blocks):
            halvings = len(self.blocks)
            raise ValueError(f"size must be at least {2**halvings} for {halvings} halvings, got {self.size}")


class PlainNetwork(nn.Module):
    """Blocks of convolutions and max pooling, then two fully connected layers.

    Args:
        settings: the shape.
        classes: how many.
    """

    def __init__(self, settings: PlainSettings, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for block in settings.blocks:
            for outputs in block:
                layers += _convolution(settings, inputs, outputs)
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        side = settings.size // 2 ** len(settings.blocks)
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.classifier = nn.Sequential(
            nn.Linear(inputs * side * side, settings.dense),
            activation(settings.activation),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.dense, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        """uint8 RGB (N, size, size, 3) -> logits (N, classes)."""
        logits: Tensor = self.classifier(self.features(normalise_pixels(images)))
        return logits


def _convolution(settings: PlainSettings, inputs: int, outputs: int) -> list[nn.Module]:
    """(N, inputs, H, W) -> (N, outputs, H, W)."""
    normalised = settings.normalisation == "batch"
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=not normalised)
    norm = [nn.BatchNorm2d(outputs)] if normalised else []
    return [convolution, *norm, activation(settings.activation)]
