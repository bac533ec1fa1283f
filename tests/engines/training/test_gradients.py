import pytest
import torch
from torch import nn

from engines.training.gradients import cosines, trunk_gradients


def test_cosines_of_tasks_that_agree_that_differ_and_that_fight() -> None:
    found = cosines({"objects": torch.tensor([1.0, 0.0]), "faces": torch.tensor([2.0, 0.0])})
    assert found == {"gradient.objects": 1.0, "gradient.faces": 2.0, "gradient.faces.objects": pytest.approx(1.0)}
    assert cosines({"a": torch.tensor([1.0, 0.0]), "b": torch.tensor([0.0, 3.0])})["gradient.a.b"] == 0.0
    assert cosines({"a": torch.tensor([1.0]), "b": torch.tensor([-3.0])})["gradient.a.b"] == pytest.approx(-1.0)


def test_a_task_without_gradient_has_a_cosine_of_zero() -> None:
    assert cosines({"a": torch.zeros(2), "b": torch.ones(2)})["gradient.a.b"] == 0.0


def test_gradients_are_of_each_task_alone_and_leave_the_graph_and_the_parameters_as_they_are() -> None:
    shared, own = nn.Parameter(torch.tensor([2.0])), nn.Parameter(torch.tensor([5.0]))
    untouched = nn.Parameter(torch.tensor([7.0]))
    losses = {"scene": (3 * shared).sum(), "faces": (shared**2 * own).sum()}
    found = trunk_gradients(losses, [shared, untouched])  # type: ignore[arg-type]
    assert {task: gradient.tolist() for task, gradient in found.items()} == {"scene": [3.0, 0.0], "faces": [20.0, 0.0]}
    assert shared.grad is None
    torch.stack(list(losses.values())).sum().backward()
    assert shared.grad is not None and shared.grad.tolist() == [23.0]
