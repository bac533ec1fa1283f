"""How each task turns what its head gave into a loss."""

from dataclasses import dataclass
from typing import Protocol, cast

from torch import nn

from engines.network.features import Grid
from engines.network.network import Raw, TaskHead
from engines.spec import TaskName
from engines.tasks import task
from engines.training.augmentation import MicroBatch
from engines.training.losses import Loss
from engines.training.settings import TrainingSettings


@dataclass(frozen=True, slots=True)
class Learning:
    """What else a loss may depend on."""

    head: TaskHead  # the task's own
    grid: Grid | None  # of the micro-batch's pictures; None for faces
    step: int  # those that lie behind
    steps: int  # of the whole run


class Criterion(Protocol):
    """A module: ``build(settings, classes)`` of ``loss.py`` in a task's folder makes it; its parameters are learnt."""

    def __call__(self, raw: Raw, batch: MicroBatch, learning: Learning) -> Loss | None:
        """The loss of a micro-batch; None where that says nothing of the task."""


def build_criteria(settings: TrainingSettings, classes: dict[TaskName, int]) -> nn.ModuleDict:
    """The criteria of the network's tasks, for so many ``classes`` of each that has one label a picture."""
    return nn.ModuleDict(
        {name: task(name).part("loss").build(settings, classes.get(name, 1)) for name in settings.network.tasks}
    )


def criterion(criteria: nn.ModuleDict, name: TaskName) -> Criterion:
    """That of one task."""
    return cast("Criterion", criteria[name])
