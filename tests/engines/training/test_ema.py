import math

import pytest
import torch
from torch import nn

from engines.training.ema import RAMP_STEPS, Ema


def network(value: float) -> nn.Sequential:
    made = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(value)
    return made


def test_the_average_moves_by_one_minus_the_decay() -> None:
    ema = Ema(network(0.0), decay=0.9)
    step = int(RAMP_STEPS * 100)  # the ramp is over
    ema.update(network(1.0), step)
    assert all(p.item() == pytest.approx(0.1) for p in ema.network.parameters())


def test_early_averages_forget_faster() -> None:
    ema = Ema(network(0.0), decay=0.9)
    ema.update(network(1.0), 1)
    keep = 0.9 * (1 - math.exp(-1 / RAMP_STEPS))
    assert ema.network[0].weight.item() == pytest.approx(1 - keep)


def test_statistics_are_averaged_and_counts_copied() -> None:
    source, ema = network(0.0), Ema(network(0.0), decay=0.5)
    source.train()(torch.tensor([[1.0], [3.0]]))
    ema.update(source, 10**6)
    mine, theirs = ema.network[1], source[1]
    assert mine.num_batches_tracked == theirs.num_batches_tracked == 1
    assert mine.running_var.item() == pytest.approx((1 + theirs.running_var.item()) / 2)


def test_the_copy_is_its_own_and_learns_nothing_by_itself() -> None:
    source = network(1.0)
    ema = Ema(source, decay=0.5)
    with torch.no_grad():
        source[0].weight.fill_(7.0)
    assert ema.network[0].weight.item() == 1.0
    assert not ema.network.training
    assert not any(parameter.requires_grad for parameter in ema.network.parameters())
