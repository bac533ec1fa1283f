import pytest
import torch

from engines.training.balancing import SETTLING, InitialValueBalance


def weigh(balance: InitialValueBalance, value: float, task: str = "scene") -> float:
    return float(balance.weigh(task, torch.tensor(value)))


def test_every_task_starts_at_its_weight_whatever_its_size() -> None:
    balance = InitialValueBalance({"scene": 1.0, "identity": 0.5})
    assert weigh(balance, 3.0) == pytest.approx(1.0)
    assert weigh(balance, 40.0, "identity") == pytest.approx(0.5)


def test_the_initial_value_is_the_mean_of_the_first_micro_batches_and_then_stands() -> None:
    balance = InitialValueBalance({"scene": 1.0})
    for value in range(1, SETTLING + 1):
        weigh(balance, float(value))
    initial = (SETTLING + 1) / 2
    assert weigh(balance, initial) == pytest.approx(1.0)
    assert weigh(balance, 1000.0) == pytest.approx(1000 / initial)
    assert weigh(balance, initial) == pytest.approx(1.0), "later values do not move it"


def test_gradients_are_scaled_by_the_initial_value_and_do_not_pass_through_it() -> None:
    balance = InitialValueBalance({"scene": 2.0})
    parameter = torch.tensor(4.0, requires_grad=True)
    balance.weigh("scene", parameter * 3).backward()
    assert parameter.grad is not None and parameter.grad.item() == pytest.approx(2.0 * 3 / 12)


def test_a_task_of_weight_zero_and_one_that_starts_at_zero_are_harmless() -> None:
    balance = InitialValueBalance({"scene": 0.0, "faces": 1.0})
    assert weigh(balance, 5.0) == 0.0
    assert weigh(balance, 0.0, "faces") == 0.0


def test_a_restored_balance_goes_on_where_it_was() -> None:
    balance, restored = (InitialValueBalance({"scene": 1.0}) for _ in range(2))
    for value in (2.0, 4.0, 6.0):
        weigh(balance, value)
    restored.restore(balance.state())
    assert weigh(restored, 8.0) == weigh(balance, 8.0)
    assert restored.state() == balance.state()
