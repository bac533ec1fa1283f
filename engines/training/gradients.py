"""Whether the tasks pull the shared trunk the same way: cosines between their gradients."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from engines.spec import TaskName


def trunk_gradients(losses: Mapping[TaskName, Tensor], shared: Sequence[nn.Parameter]) -> dict[str, Tensor]:
    """Gradient (P,) of each loss on all shared parameters; the graph stays for the step's own backward pass."""
    found: dict[str, Tensor] = {}
    for task, loss in losses.items():
        parts = torch.autograd.grad(loss, shared, retain_graph=True, materialize_grads=True, allow_unused=True)
        found[task] = torch.cat([g.flatten().float() for g in parts])
    return found


def cosines(gradients: Mapping[str, Tensor]) -> dict[str, float]:
    """``gradient.A.B``: cosine between two tasks; ``gradient.A``: the norm of one."""
    norms = {task: gradient.norm() for task, gradient in gradients.items()}
    found = {f"gradient.{task}": float(norm) for task, norm in norms.items()}
    for one, other in combinations(sorted(gradients), 2):
        scale = (norms[one] * norms[other]).clamp(min=1e-20)
        found[f"gradient.{one}.{other}"] = float((gradients[one] @ gradients[other]) / scale)
    return found


class Gradients:
    """Sums of the tasks' gradients on the trunk over a step's micro-batches."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, gradients: Mapping[str, Tensor]) -> None:
        """Take in a micro-batch."""
        for task, gradient in gradients.items():
            self.sums[task] = self.sums[task] + gradient if task in self.sums else gradient
