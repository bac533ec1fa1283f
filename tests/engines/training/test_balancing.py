import pytest
import torch

from engines.training.balancing import SETTLING, FamoBalance, InitialValueBalance, UncertaintyBalance, build_balance


def weigh(balance: InitialValueBalance, value: float, task: str = "scene") -> float:
    return float(balance.weigh(task, torch.tensor(value)).detach())


def test_every_task_starts_at_its_weight_whatever_its_size() -> None:
    balance = InitialValueBalance({"scene": 1.0, "identity": 0.5})
    assert weigh(balance, 3.0) == pytest.approx(1.0)
    assert weigh(balance, 40.0, "identity") == pytest.approx(0.5)


def test_the_initial_value_is_the_mean_of_the_first_micro_batches_and_then_stands() -> None:
    balance = InitialValueBalance({"scene": 1.0})
    for value in range(1, SETTLING + 1):
        balance.observe([{"scene": float(value)}])
    initial = (SETTLING + 1) / 2
    balance.observe([{"scene": 1000.0}])
    assert weigh(balance, initial) == pytest.approx(1.0), "later values do not move it"
    assert weigh(balance, 1000.0) == pytest.approx(1000 / initial)


def test_weighing_changes_nothing() -> None:
    """So that it does not matter which process a micro-batch is weighed in, or in what order."""
    balance = InitialValueBalance({"scene": 1.0})
    balance.observe([{"scene": 2.0}])
    assert [weigh(balance, value) for value in (8.0, 2.0, 8.0)] == pytest.approx([4.0, 1.0, 4.0])


def test_gradients_are_scaled_by_the_initial_value_and_do_not_pass_through_it() -> None:
    balance = InitialValueBalance({"scene": 2.0})
    parameter = torch.tensor(4.0, requires_grad=True)
    balance.weigh("scene", parameter * 3).backward()
    assert parameter.grad is not None and parameter.grad.item() == pytest.approx(2.0 * 3 / 12)


def test_a_task_of_weight_zero_and_one_that_starts_at_zero_are_harmless() -> None:
    balance = InitialValueBalance({"scene": 0.0, "faces": 1.0})
    assert weigh(balance, 5.0) == 0.0
    assert weigh(balance, 0.0, "faces") == 0.0


@pytest.mark.parametrize("kind", ["fixed", "uncertainty", "famo"])
def test_a_restored_balance_goes_on_where_it_was(kind: str) -> None:
    balance, restored = (build_balance(kind, {"scene": 1.0, "faces": 2.0}) for _ in range(2))  # type: ignore[arg-type]
    for value in (2.0, 4.0, 6.0):
        before = [{"scene": value, "faces": 1.0}]
        balance.observe(before)
        balance.learn(before, [{"scene": value / 2, "faces": 0.9}])
    with torch.no_grad():
        for parameter in balance.parameters():
            parameter.add_(0.3)
    restored.restore(balance.state())
    assert weigh(restored, 8.0) == weigh(balance, 8.0)


def test_uncertainty_begins_as_the_fixed_sum() -> None:
    balance = UncertaintyBalance({"scene": 3.0})
    balance.observe([{"scene": 2.0}])
    assert weigh(balance, 4.0) == pytest.approx(6.0)


def test_uncertainty_learns_the_log_of_the_loss() -> None:
    """d/ds (exp(-s) L + s) = 0 at s = log L: a task with a large loss gets a small weight."""
    balance = UncertaintyBalance({"scene": 1.0})
    balance.observe([{"scene": 1.0}])
    optimiser = torch.optim.SGD(balance.parameters(), lr=0.2)
    for _ in range(200):
        optimiser.zero_grad()
        balance.weigh("scene", torch.tensor(5.0)).backward()
        optimiser.step()
    assert float(balance.log_variances["scene"].detach()) == pytest.approx(torch.tensor(5.0).log().item(), abs=1e-3)


def famo_after(scene: float, faces: float, steps: int = 50) -> FamoBalance:
    """After steps that each left these shares of the two losses."""
    balance = FamoBalance({"scene": 1.0, "faces": 1.0})
    balance.observe([{"scene": 1.0, "faces": 1.0}] * SETTLING)
    for _ in range(steps):
        balance.learn([{"scene": 1.0}, {"faces": 1.0}], [{"scene": scene}, {"faces": faces}])
    return balance


def test_famo_begins_with_equal_weights_and_keeps_them_while_the_tasks_improve_alike() -> None:
    assert weigh(famo_after(0.9, 0.9), 1.0) == pytest.approx(1.0)


def test_famo_turns_to_the_task_that_improves_least() -> None:
    balance = famo_after(scene=0.99, faces=0.5)
    assert weigh(balance, 1.0, "scene") > 1.2 > 0.8 > weigh(balance, 1.0, "faces")
    assert weigh(balance, 1.0, "scene") + weigh(balance, 1.0, "faces") == pytest.approx(2.0)


def test_famo_leaves_a_task_alone_that_had_no_micro_batch() -> None:
    balance = FamoBalance({"scene": 1.0, "faces": 1.0})
    balance.observe([{"scene": 1.0}])
    balance.learn([{"scene": 1.0}], [{"scene": 1.0}])
    assert weigh(balance, 1.0, "scene") == pytest.approx(1.0)
