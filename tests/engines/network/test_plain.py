import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.network.plain import PlainNetwork, PlainSettings

BLOCKS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=2).map(tuple), min_size=1, max_size=3).map(tuple)


@given(
    blocks=BLOCKS,
    size=st.integers(8, 20),
    normalisation=st.sampled_from(["none", "batch"]),
    activation=st.sampled_from(["relu", "silu", "hardswish"]),
    classes=st.integers(1, 5),
)
def test_any_shape_gives_one_value_for_each_class(
    blocks: tuple[tuple[int, ...], ...], size: int, normalisation: str, activation: str, classes: int
) -> None:
    settings = PlainSettings(
        size=size, blocks=blocks, dense=3, activation=activation, normalisation=normalisation, dropout=0.5
    )
    logits = PlainNetwork(settings, classes)(torch.zeros(2, size, size, 3, dtype=torch.uint8))
    assert logits.shape == (2, classes)
    assert torch.isfinite(logits).all()


def test_the_network_of_the_articles_has_its_known_size() -> None:
    network = PlainNetwork(PlainSettings(), 10)
    convolutions = (3 * 9 * 32 + 32) + (32 * 9 * 64 + 64)
    dense = (7 * 7 * 64 * 128 + 128) + (128 * 10 + 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == convolutions + dense == 422_218


def test_dropout_is_at_work_while_training_alone() -> None:
    torch.manual_seed(0)
    network = PlainNetwork(PlainSettings(size=8, blocks=((4,),), dense=64, dropout=0.5), 2)
    picture = torch.full((1, 8, 8, 3), 200, dtype=torch.uint8)
    assert not torch.equal(network.train()(picture), network(picture))
    assert torch.equal(network.eval()(picture), network(picture))


def test_a_picture_of_which_the_halvings_leave_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be at least 8 for 3 halvings, got 7"):
        PlainSettings(size=7, blocks=((4,), (4,), (4,)))
