"""How the tasks' losses are weighed against each other."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from engines.training.settings import BalanceKind

SETTLING = 20  # micro-batches over which a loss's initial value is averaged
FAMO_RATE, FAMO_DECAY = 0.025, 0.001  # step size and decay of its weights, as its authors set them


class InitialValueBalance(nn.Module):
    """A fixed weighted sum of losses, each divided by its own initial value, so that all start near 1.

    Its state changes between steps only: within one, all micro-batches are weighed alike, whichever process they
    are in.
    """

    looks_back = False  # whether it wants the losses of a step once more, after the step

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__()
        self.weights = dict(weights)
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def weigh(self, task: str, loss: Tensor) -> Tensor:
        """The task's weighted, normalised loss (scalar); a task that was never seen before counts as 1."""
        return self.weights[task] * self.normalise(task, loss)

    def normalise(self, task: str, loss: Tensor) -> Tensor:
        """A loss over its initial value."""
        if task not in self.counts:
            return loss / loss.detach().clamp(min=1e-6)
        return loss / max(self.sums[task] / self.counts[task], 1e-6)

    def observe(self, losses: Sequence[Mapping[str, float]]) -> None:
        """Take in a step's raw losses: of each micro-batch by task, in their order."""
        for each in losses:
            for task, loss in each.items():
                if self.counts.get(task, 0) < SETTLING:
                    self.sums[task] = self.sums.get(task, 0.0) + loss
                    self.counts[task] = self.counts.get(task, 0) + 1

    def learn(self, before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> None:
        """Take in what a step changed: the losses of its micro-batches before and after it."""

    def state(self) -> dict[str, Any]:
        """What must be saved to go on."""
        return {"sums": dict(self.sums), "counts": dict(self.counts), "module": self.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.restore_initial_values(state)
        self.load_state_dict(state["module"])

    def restore_initial_values(self, state: Mapping[str, Any]) -> None:
        """Take over the initial values alone."""
        self.sums, self.counts = dict(state["sums"]), dict(state["counts"])


class UncertaintyBalance(InitialValueBalance):
    """Weights learnt with the network: exp(-s) loss + s, s the log variance of a task (Kendall et al. 2018)."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.log_variances = nn.ParameterDict({task: nn.Parameter(torch.zeros(())) for task in weights})

    def weigh(self, task: str, loss: Tensor) -> Tensor:
        """The task's loss under its uncertainty, times its fixed weight."""
        log_variance: Tensor = self.log_variances[task]
        return self.weights[task] * (torch.exp(-log_variance) * self.normalise(task, loss) + log_variance)


class FamoBalance(InitialValueBalance):
    """Fast adaptive multi-task optimisation (Liu et al. 2023): all losses shrink at the same relative rate.

    A step follows the gradient of sum_i z_i log(loss_i), scaled so that the weights of the losses sum to one;
    z = softmax(logits), and the logits rise for tasks whose log loss fell least in the step.
    """

    looks_back = True
    logits: Tensor
    recent: Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(weights)
        self.tasks = list(weights)
        self.register_buffer("logits", torch.zeros(len(self.tasks), dtype=torch.float64))
        self.register_buffer("recent", torch.ones(len(self.tasks), dtype=torch.float64))

    def weigh(self, task: str, loss: Tensor) -> Tensor:
        """The task's loss under its adaptive weight, times its fixed one; adaptive weights sum to the tasks' count."""
        shares = self.logits.softmax(0) / self.recent
        share = float(len(self.tasks) * shares[self.tasks.index(task)] / shares.sum())
        return self.weights[task] * share * self.normalise(task, loss)

    def learn(self, before: Sequence[Mapping[str, float]], after: Sequence[Mapping[str, float]]) -> None:
        """Move the logits by what each task's log loss changed; a task without micro-batch in the step stays."""
        old, new = _means(before), _means(after)
        rates = torch.zeros_like(self.logits)
        for task in old:
            row = self.tasks.index(task)
            rates[row] = torch.tensor(old[task]).clamp(min=1e-8).log() - torch.tensor(new[task]).clamp(min=1e-8).log()
            initial = self.sums[task] / self.counts[task]
            self.recent[row] = 0.9 * self.recent[row] + 0.1 * max(old[task] / max(initial, 1e-6), 1e-8)
        shares = self.logits.softmax(0)
        gradient = shares * (rates - (shares * rates).sum())  # of the softmax, times the rates
        self.logits -= FAMO_RATE * (gradient + FAMO_DECAY * self.logits)


def build_balance(kind: BalanceKind, weights: Mapping[str, float]) -> InitialValueBalance:
    """The balance that the settings name."""
    match kind:
        case "fixed":
            return InitialValueBalance(weights)
        case "uncertainty":
            return UncertaintyBalance(weights)
        case "famo":
            return FamoBalance(weights)


def _means(losses: Sequence[Mapping[str, float]]) -> dict[str, float]:
    found = defaultdict(list)
    for each in losses:
        for task, loss in each.items():
            found[task].append(loss)
    return {task: sum(values) / len(values) for task, values in found.items()}
