"""Which set each micro-batch of a step comes from, and which of its pictures."""

from collections.abc import Sequence

import torch
from torch import Tensor

from engines.training.datasets import BoxLabels, PictureSet


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
    """Rows of one set: every picture once an epoch; labelled sets are balanced by (class size)^0.5.

    With ``repeat``, a picture with people's boxes of a class that is in a smaller share than that of the pictures comes
    (repeat / share)^0.5 times an epoch (Gupta et al. 2019).
    """

    def __init__(self, data: PictureSet, generator: torch.Generator, repeat: float = 0.0) -> None:
        self.count = len(data)
        self.generator = generator
        self.queue = torch.empty(0, dtype=torch.int64)
        self.weights: Tensor | None = None
        if data.labels is not None:
            labels = data.labels.cpu()
            sizes = torch.bincount(labels).clamp(min=1).double()
            self.weights = sizes[labels] ** -0.5
        self.repeats = repeats(data.objects, repeat) if repeat and data.objects is not None else None

    def take(self, count: int) -> Tensor:
        """The next ``count`` rows (int64)."""
        if self.weights is not None:
            return torch.multinomial(self.weights, count, replacement=True, generator=self.generator)
        while len(self.queue) < count:
            self.queue = torch.cat([self.queue, self._epoch()])
        rows, self.queue = self.queue[:count], self.queue[count:]
        return rows

    def _epoch(self) -> Tensor:
        rows = torch.arange(self.count)
        if self.repeats is not None:
            rows = rows.repeat_interleave((self.repeats + torch.rand(self.count, generator=self.generator)).long())
        return rows[torch.randperm(len(rows), generator=self.generator)]


def repeats(labels: BoxLabels, threshold: float) -> Tensor:
    """How often each picture (N,) should come, 1 at least, by its rarest class of boxes that people drew."""
    drawn = (labels.classes >= 0) & ~labels.ignore
    if labels.scores is not None:
        drawn &= labels.scores >= 1
    classes = torch.where(drawn, labels.classes, -1).cpu()
    present = torch.stack([(classes == label).any(1) for label in range(int(classes.max()) + 1)] or [classes.any(1)], 1)
    often = (threshold / present.double().mean(0).clamp(min=1e-9)).sqrt()
    return torch.where(present, often, 1.0).amax(1).clamp(min=1.0)
