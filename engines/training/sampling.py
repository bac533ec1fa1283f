"""Which set each micro-batch of a step comes from, and which of its pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.training.datasets import PictureSet


class SetSampler:
    """Spreads micro-batches over sets in proportion to weight * (size)^temperature.

    The shares are met by carrying the remainder from step to step, so that every step is as mixed as it can be.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], temperature: float, micro_batches: int) -> None:
        shares = torch.tensor(sizes, dtype=torch.float64) ** temperature * torch.tensor(weights, dtype=torch.float64)
        self.shares = shares / shares.sum()
        self.micro_batches = micro_batches
        self.credit = torch.zeros(len(sizes), dtype=torch.float64)

    def step(self) -> list[int]:
        """Set indices of the next step's micro-batches."""
        chosen = []
        for _ in range(self.micro_batches):
            self.credit += self.shares
            best = int(self.credit.argmax())
            self.credit[best] -= 1
            chosen.append(best)
        return chosen


class RowSampler:
    """Rows of one set: every picture once an epoch; labelled sets are balanced by (class size)^0.5."""

    def __init__(self, data: PictureSet, generator: torch.Generator) -> None:
        self.count = len(data)
        self.generator = generator
        self.queue = torch.empty(0, dtype=torch.int64)
        self.weights: Tensor | None = None
        if data.labels is not None:
            labels = data.labels.cpu()
            sizes = torch.bincount(labels).clamp(min=1).double()
            self.weights = sizes[labels] ** -0.5

    def take(self, count: int) -> Tensor:
        """The next ``count`` rows (int64)."""
        if self.weights is not None:
            return torch.multinomial(self.weights, count, replacement=True, generator=self.generator)
        while len(self.queue) < count:
            self.queue = torch.cat([self.queue, torch.randperm(self.count, generator=self.generator)])
        rows, self.queue = self.queue[:count], self.queue[count:]
        return rows
