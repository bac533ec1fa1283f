"""How the tasks' losses are weighed against each other."""

from collections.abc import Mapping

from torch import Tensor

SETTLING = 20  # micro-batches over which a loss's initial value is averaged


class InitialValueBalance:
    """A fixed weighted sum of losses, each divided by its own initial value, so that all start near 1."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = dict(weights)
        self.sums: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def weigh(self, task: str, loss: Tensor) -> Tensor:
        """The task's weighted, normalised loss (scalar)."""
        count = self.counts.get(task, 0)
        if count < SETTLING:
            self.sums[task] = self.sums.get(task, 0.0) + float(loss.detach())
            self.counts[task] = count + 1
        initial = self.sums[task] / self.counts[task]
        return loss * (self.weights[task] / max(initial, 1e-6))

    def state(self) -> tuple[dict[str, float], dict[str, int]]:
        """What must be saved to go on."""
        return dict(self.sums), dict(self.counts)

    def restore(self, state: tuple[dict[str, float], dict[str, int]]) -> None:
        """Go on from :meth:`state`."""
        self.sums, self.counts = dict(state[0]), dict(state[1])
