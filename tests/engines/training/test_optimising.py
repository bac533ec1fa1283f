import pytest
import torch
from torch import Tensor, nn

from engines.training.optimising import FilterMuon, Optimiser
from engines.training.settings import TrainingSettings
from tests.engines.training.made_data import tiny_settings


def network() -> nn.Sequential:
    """A stem, a bank of filters, one that is frozen, depthwise filters, a norm and a linear layer."""
    torch.manual_seed(0)
    found = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 24, 3),
        nn.Conv2d(24, 24, 1),
        nn.Conv2d(24, 24, 3, groups=24),
        nn.BatchNorm2d(24),
        nn.Linear(24, 12),
    )
    found[2].requires_grad_(requires_grad=False)
    return found.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # a true overload


def moved(settings: TrainingSettings, rate: float = 0.01) -> dict[str, Tensor]:
    """What one step with gradients drawn at random takes from each weight, where it takes anything."""
    layers = network()
    before = {name: value.detach().clone() for name, value in layers.named_parameters()}
    optimiser = Optimiser(layers, [], settings)
    optimiser.set_rate(rate)
    generator = torch.Generator().manual_seed(1)
    for each in layers.parameters():
        if each.requires_grad:
            each.grad = torch.randn(each.shape, generator=generator)
    optimiser.step()
    taken = {name: before[name] - value.detach() for name, value in layers.named_parameters()}
    return {name: change for name, change in taken.items() if bool(change.any())}


def test_muon_moves_the_filters_between_channels_and_adamw_the_rest() -> None:
    plain = moved(tiny_settings(weight_decay=0.0))
    other = moved(tiny_settings(weight_decay=0.0, optimiser="muon"))
    assert plain.keys() == other.keys() and not any(name.startswith("2.") for name in plain), "frozen"
    differing = [name for name in plain if not torch.equal(plain[name], other[name])]
    assert differing == ["1.weight"]


def test_a_step_of_filters_has_equal_singular_values_and_the_size_of_adamws() -> None:
    """0.2 of the rate is the root of the mean square that Liu et al. (2025) measured of AdamW's steps."""
    step = moved(tiny_settings(weight_decay=0.0, optimiser="muon"))["1.weight"]
    values = torch.linalg.svdvals(step.permute(0, 2, 3, 1).reshape(24, -1))
    assert float(values.min()) > 0.6 * float(values.max())
    assert float(step.square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.2)


def test_filters_decay_at_the_same_rate() -> None:
    without, decayed = (moved(tiny_settings(weight_decay=decay, optimiser="muon")) for decay in (0.0, 0.5))
    torch.testing.assert_close(decayed["1.weight"] - without["1.weight"], network()[1].weight.detach() * 0.5 * 0.01)


def test_filters_in_another_order_are_refused() -> None:
    """Their matrices would be copies, and nothing would move."""
    with pytest.raises(ValueError, match="channels-last"):
        FilterMuon([nn.Parameter(torch.zeros(16, 16, 3, 3))], 0.1, 0.0)
