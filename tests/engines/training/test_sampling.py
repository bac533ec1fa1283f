from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engines.training.datasets import BoxLabels, PictureSet
from engines.training.sampling import RowSampler, SetSampler, repeats

sizes_of_sets = st.lists(st.integers(1, 100_000), min_size=1, max_size=6)


def pictures(count: int, labels: list[int] | None = None) -> PictureSet:
    made = torch.zeros(count, 1, 1, 3, dtype=torch.uint8)
    return PictureSet(
        "made", "boxes", made, torch.ones(count, 2), labels=None if labels is None else torch.tensor(labels)
    )


@given(sizes_of_sets, st.floats(0, 1), st.integers(1, 8), st.integers(1, 60))
def test_shares_are_met_to_within_one_micro_batch_at_any_time(
    sizes: list[int], temperature: float, micro_batches: int, steps: int
) -> None:
    sampler = SetSampler(sizes, [1.0] * len(sizes), temperature, micro_batches)
    chosen: Counter[int] = Counter()
    for step in range(1, steps + 1):
        drawn = sampler.step()
        assert len(drawn) == micro_batches
        chosen.update(drawn)
        for index in range(len(sizes)):
            assert abs(chosen[index] - float(sampler.shares[index]) * step * micro_batches) < len(sizes)


@pytest.mark.parametrize(("temperature", "shares"), [(0.0, [0.5, 0.5]), (0.5, [0.25, 0.75]), (1.0, [0.1, 0.9])])
def test_the_temperature_bends_the_shares(temperature: float, shares: list[float]) -> None:
    sampler = SetSampler([100, 900], [1.0, 1.0], temperature, 4)
    assert sampler.shares.tolist() == pytest.approx(shares)
    chosen = Counter(index for _ in range(100) for index in sampler.step())
    assert [chosen[0] / 400, chosen[1] / 400] == pytest.approx(shares, abs=0.01)


def test_a_weight_multiplies_the_share() -> None:
    sampler = SetSampler([100, 100], [3.0, 1.0], 0.5, 4)
    assert sampler.shares.tolist() == pytest.approx([0.75, 0.25])


def test_as_many_micro_batches_as_equal_sets_visit_each_in_every_step() -> None:
    sampler = SetSampler([7, 7, 7], [1.0] * 3, 1.0, 3)
    assert all(sorted(sampler.step()) == [0, 1, 2] for _ in range(20))


@given(st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_every_picture_comes_once_an_epoch(count: int, takes: list[int]) -> None:
    sampler = RowSampler(pictures(count), torch.Generator().manual_seed(0))
    rows = torch.cat([sampler.take(take) for take in takes])
    assert len(rows) == sum(takes)
    for epoch in rows[: len(rows) // count * count].reshape(-1, count):
        assert sorted(epoch.tolist()) == list(range(count))


def test_epochs_differ() -> None:
    sampler = RowSampler(pictures(50), torch.Generator().manual_seed(0))
    assert not torch.equal(sampler.take(50), sampler.take(50))


def test_labelled_sets_are_balanced_by_the_root_of_their_class_sizes() -> None:
    """A class of 90 pictures against one of 10: three to one, not nine to one."""
    labels = [0] * 90 + [1] * 10
    sampler = RowSampler(pictures(100, labels), torch.Generator().manual_seed(0))
    rows = sampler.take(8000)
    assert (rows >= 90).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert len(set(rows.tolist())) == 100


@pytest.mark.parametrize("labels", [None, [0, 1, 1, 2, 2, 2]])
def test_a_seed_decides_the_rows(labels: list[int] | None) -> None:
    one, same, other = (RowSampler(pictures(6, labels), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    first = one.take(40)
    assert torch.equal(first, same.take(40))
    assert not torch.equal(first, other.take(40))


def boxes(classes: list[list[int]], ignored: bool = False, score: float | None = None) -> BoxLabels:
    labels = torch.tensor(classes)
    scores = None if score is None else torch.full(labels.shape, score)
    return BoxLabels(torch.zeros(*labels.shape, 4), labels, torch.full(labels.shape, ignored), scores=scores)


RARE = [[0, 1]] * 4 + [[0, -1]] * 95 + [[-1, -1]]  # class 1 in four of a hundred pictures


def test_pictures_of_rare_classes_come_more_often() -> None:
    """A share of 0.04 below 0.16: (0.16 / 0.04)^0.5, twice an epoch."""
    often = repeats(boxes(RARE), 0.16)
    assert often.tolist() == pytest.approx([2.0] * 4 + [1.0] * 96)
    data = replace(pictures(100), objects=boxes(RARE))
    sampler = RowSampler(data, torch.Generator().manual_seed(0), repeat=0.16)
    for _ in range(3):
        epoch = Counter(sampler.take(104).tolist())
        assert [epoch[row] for row in range(100)] == [2] * 4 + [1] * 96


def test_a_broken_number_of_times_is_met_on_average() -> None:
    """(0.09 / 0.04)^0.5 = 1.5."""
    data = replace(pictures(100), objects=boxes(RARE))
    sampler = RowSampler(data, torch.Generator().manual_seed(0), repeat=0.09)
    rows = sampler.take(102 * 400)
    assert (rows < 4).float().mean().item() == pytest.approx(6 / 102, rel=0.05)


@pytest.mark.parametrize("labels", [boxes(RARE, ignored=True), boxes(RARE, score=0.9), boxes([[-1]] * 100)])
def test_what_nobody_drew_makes_no_picture_rare(labels: BoxLabels) -> None:
    assert repeats(labels, 0.5).tolist() == [1.0] * 100
