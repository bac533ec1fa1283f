"""Several processes train as one: the parts of it here, the whole in tests/tools/test_train.py."""

import copy

import pytest
import torch
from torch import nn

from engines.training.processes import NormStatistics, Processes


def test_a_process_alone_has_all_micro_batches_and_changes_nothing() -> None:
    alone = Processes()
    assert alone.leads
    assert alone.mine(["a", "b"]) == [(0, "a"), (1, "b")]
    assert alone.gathered({1: "b", 0: "a"}) == ["a", "b"]
    assert alone.agreed(3) == 3
    parameter = nn.Parameter(torch.ones(2))
    alone.sum_gradients([parameter])
    assert parameter.grad is None


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_micro_batch_is_dealt_to_one_process(count: int) -> None:
    dealt = [each for rank in range(count) for each in Processes(rank, count).mine(list("abcd"))]
    assert sorted(dealt) == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


def two_norms() -> nn.Module:
    return nn.ModuleList([nn.BatchNorm2d(3, momentum=0.03), nn.BatchNorm2d(3, momentum=0.1)])


def test_statistics_taken_apart_and_joined_are_those_of_going_through_all_in_order() -> None:
    """Three micro-batches, of which the second goes through the first norm alone, in one process or dealt to two."""
    torch.manual_seed(0)
    batches = [torch.randn(4, 3, 5, 5) * scale + scale for scale in (1.0, 2.0, 5.0)]
    through = [(0, 1), (0,), (0, 1)]
    straight = two_norms()
    replicas = [copy.deepcopy(straight) for _ in range(2)]

    def go(norms: nn.Module, position: int) -> None:
        for row in through[position]:
            norms[row](batches[position])  # type: ignore[index]

    for position in range(3):
        go(straight, position)
    taken = {}
    statistics = [NormStatistics(replica) for replica in replicas]
    for rank, (replica, each) in enumerate(zip(replicas, statistics, strict=True)):
        each.begin()
        for position in range(rank, 3, 2):
            go(replica, position)
            taken[position] = each.take()
    for each in statistics:
        each.end([taken[position] for position in range(3)])
    for replica in replicas:
        for (name, wanted), found in zip(straight.state_dict().items(), replica.state_dict().values(), strict=True):
            torch.testing.assert_close(found, wanted, msg=name)
        assert [norm.momentum for norm in replica] == [0.03, 0.1]  # type: ignore[attr-defined]
    assert [int(norm.num_batches_tracked) for norm in replicas[0]] == [3, 2]  # type: ignore[attr-defined]
