"""A tiny network with fresh weights that finds something in any picture, so that there is something to compare."""

import math

import torch
from torch import nn

from engines.compiling.export import Trained
from engines.network.network import build_network
from engines.spec import NetworkSettings
from tests.engines.evaluation.colours import OBJECTS, SCENES
from tests.engines.training.made_data import TINY

FRAME_SIZE = (64, 96)  # height, width
SCORE = 0.3  # about what every row says; well above the rows that parity looks at


def trained(settings: NetworkSettings = TINY, *, seed: int = 0) -> Trained:
    """Weights with normalisations that did something, and scores about SCORE at every anchor point."""
    torch.manual_seed(seed)
    network = build_network(settings, len(OBJECTS), len(SCENES))
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
                module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
                module.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
        for head in (getattr(network, name) for name in ("objects", "faces") if name in network.tasks):
            for layer in head.scores or head.predict:
                layer.bias[: head.classes] = math.log(SCORE / (1 - SCORE))  # type: ignore[index,operator]
        if "identity" in network.tasks:
            network.identity.quality.weight.normal_(std=0.02)
    return Trained("tiny", settings, network.state_dict(), OBJECTS, SCENES)
