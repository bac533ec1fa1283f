"""Several training processes that act as one: micro-batches are dealt out, gradients are summed."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Value = TypeVar("Value")


class Processes:
    """The place of a process among all of a run. Alone, every method is the identity."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank = rank
        self.count = count

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files and speaks to the user."""
        return self.rank == 0

    def mine(self, micro_batches: Sequence[Value]) -> list[tuple[int, Value]]:
        """(position, micro-batch) of those that this process works on."""
        return [(position, each) for position, each in enumerate(micro_batches) if position % self.count == self.rank]

    def gathered(self, mine: Mapping[int, Value]) -> list[Value]:
        """What all processes have, by position, in order."""
        if self.count == 1:
            return [mine[position] for position in sorted(mine)]
        parts: list[Any] = [None] * self.count
        dist.all_gather_object(parts, dict(mine))
        joined = {position: value for part in parts for position, value in part.items()}
        return [joined[position] for position in sorted(joined)]

    def agreed(self, value: Value) -> Value:
        """The leading process' value."""
        if self.count == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum all parameters' gradients over the processes; one that no process has stays without."""
        if self.count == 1:
            return
        device = parameters[0].device
        there = torch.tensor([float(p.grad is not None) for p in parameters], device=device)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
        dist.all_reduce(there)
        dist.all_reduce(flat)
        sizes = [p.numel() for p in parameters]
        for p, part, count in zip(parameters, torch.split(flat, sizes), there.tolist(), strict=True):
            p.grad = part.view_as(p) if count else None

    def sum(self, values: Mapping[str, Tensor], names: Sequence[str], like: Tensor) -> dict[str, Tensor]:
        """Named tensors shaped ``like``, summed over the processes; names that no process has are left out."""
        if self.count == 1:
            return dict(values)
        there = torch.tensor([float(name in values) for name in names], device=like.device)
        stacked = torch.stack([values.get(name, torch.zeros_like(like)) for name in names])
        dist.all_reduce(there)
        dist.all_reduce(stacked)
        return {name: row for name, row, count in zip(names, stacked, there.tolist(), strict=True) if count}


@contextmanager
def joined_processes(device: torch.device) -> Iterator[Processes]:
    """The processes that ``torchrun`` started; this one alone where it did not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), count)
        # None leaves before the leading one has written its files. It also takes the last tensors out of the hands of
        # gloo's own threads, which abort the process if they drop them while the interpreter is ending.
        dist.barrier()
    finally:
        dist.destroy_process_group()


class NormStatistics:
    """Running statistics of batch normalisation that are the same whichever process a micro-batch was in.

    Each micro-batch's own statistics are taken; all of a step are then averaged in, in the order of the
    micro-batches, as a single process would.
    """

    def __init__(self, network: nn.Module) -> None:
        self.norms = [each for each in network.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
        self.momenta = [each.momentum or 0.0 for each in self.norms]
        self.begun: list[_Statistics] = []
        self.seen: list[int] = []

    def begin(self) -> None:
        """Before a step: from here on, running statistics are those of one micro-batch."""
        self.begun = [_Statistics.of(each) for each in self.norms]
        self.seen = [each.batches for each in self.begun]
        for each in self.norms:
            each.momentum = 1.0

    def take(self) -> dict[int, "_Statistics"]:
        """After a micro-batch: the statistics of the norms that it went through, by their row."""
        found = {}
        for row, each in enumerate(self.norms):
            now = _Statistics.of(each)
            if now.batches != self.seen[row]:
                found[row] = now
                self.seen[row] = now.batches
        return found

    def end(self, taken: Sequence[Mapping[int, "_Statistics"]]) -> None:
        """After a step: average in what all micro-batches of all processes gave, in their order."""
        for row, (norm, momentum) in enumerate(zip(self.norms, self.momenta, strict=True)):
            begun = self.begun[row]
            for each in (micro_batch[row] for micro_batch in taken if row in micro_batch):
                begun.mean.lerp_(each.mean, momentum)
                begun.var.lerp_(each.var, momentum)
                begun.batches += 1
            begun.write(norm)
            norm.momentum = momentum


@dataclass(slots=True)
class _Statistics:
    """Running statistics of one norm, on the CPU."""

    mean: Tensor
    var: Tensor
    batches: int

    @classmethod
    def of(cls, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> "_Statistics":
        mean, var, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
        assert mean is not None and var is not None and batches is not None
        return cls(mean.to("cpu", copy=True), var.to("cpu", copy=True), int(batches))

    def write(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        mean, var, batches = norm.running_mean, norm.running_var, norm.num_batches_tracked
        assert mean is not None and var is not None and batches is not None
        mean.copy_(self.mean)
        var.copy_(self.var)
        batches.fill_(self.batches)
