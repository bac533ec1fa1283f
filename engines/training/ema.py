"""Exponential moving average of a network's weights and statistics."""

import copy
import math

import torch
from torch import nn

RAMP_STEPS = 400.0  # early averages forget faster


class Ema:
    """Keeps ``network``, a copy that follows the trained one; it is what is evaluated and exported."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards ``network`` after its ``step``-th step, counted from 1."""
        keep = self.decay * (1 - math.exp(-step / RAMP_STEPS))
        for mine, theirs in zip(self.network.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.dtype.is_floating_point:
                mine.lerp_(theirs, 1 - keep)
            else:
                mine.copy_(theirs)
