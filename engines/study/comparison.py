"""One multi-task network against one single-task network per task: same trunk, data, pictures and schedule.

The single-task network of a task is trained by the very run of the joint network, from which the other tasks' heads
and losses are gone, and with them the micro-batches that label none of its own: at each step it sees the same pictures
of its sets, augmented alike, at the same size and learning rate.
"""

import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Final

import torch
from msgspec.structs import replace

from engines.compiling.export import Trained, export
from engines.errors import ConfigError
from engines.evaluation.report import evaluate_model
from engines.evaluation.truth import configured_truth
from engines.network.cost import cost
from engines.spec import EntryName, TaskName, Thresholds, load_model
from engines.study.metrics import Figures, figures_of
from engines.study.runs import RunOutcome, Stop, Study, StudyRun, fingerprint, key_of, trained
from engines.training.checkpoint import Checkpoint
from engines.training.datasets import load_sets
from engines.training.settings import TrainingSettings

JOINT: Final = "joint"
# Low, so that landmarks are measured on nearly all faces that are found at all: at a higher one, the network that is
# less sure would be measured on the easier faces.
THRESHOLDS: Final = Thresholds(face_score=0.1)


class NetworkOutcome(RunOutcome, frozen=True, kw_only=True):
    """A finished run of a network, whose name is JOINT or its task's and whose number is the seed."""

    tasks: tuple[TaskName, ...]
    steps: int
    frame_size: int  # side of the exported frame entry, pixels
    figures: Figures
    parameters: int
    macs: dict[EntryName, int]  # multiply-accumulates of a picture


def compared_tasks(settings: TrainingSettings) -> tuple[TaskName, ...]:
    """The tasks of a joint configuration.

    Raises:
        ConfigError: there is one only.
    """
    labelled = {task for entry in settings.datasets for task in entry.labelled}
    tasks = tuple(task for task in settings.network.tasks if task in labelled)
    if len(tasks) < 2:
        raise ConfigError(
            f"{settings.name}: network.tasks and the labels must have two tasks in common to compare, "
            f"got {', '.join(tasks) or 'none'}"
        )
    return tasks


def shortened(settings: TrainingSettings, steps: int) -> TrainingSettings:
    """The same run in so many steps, with the same share of them for the warm-up; it measures no gradients."""
    warmup = round(settings.warmup_steps * steps / settings.steps)
    return replace(settings, steps=steps, warmup_steps=warmup, gradient_steps=0)


def frame_size(settings: TrainingSettings) -> int:
    """Side of the exported frame entry, pixels: that of the validation, else the largest that is trained with."""
    sizes = [entry.size for entry in settings.datasets if entry.entry == "frame" and not settings.validation]
    return max(sizes, default=settings.frame_size)


def declared_runs(
    settings: TrainingSettings, seeds: Sequence[int], of_data: str = ""
) -> tuple[StudyRun[TrainingSettings], ...]:
    """All runs: seed by seed the joint one, then those of its tasks; ``of_data`` is the data's fingerprint."""
    names = (JOINT, *compared_tasks(settings))
    seeded = [replace(settings, seed=seed) for seed in seeds]
    return tuple(
        StudyRun(name, own.seed, own, own.steps, key_of(own, name, of_data)) for own in seeded for name in names
    )


class TaskComparison(Study[TrainingSettings, NetworkOutcome]):
    """The runs of a joint configuration and of its tasks alone, with all seeds.

    Args:
        settings: the joint configuration; its seed is not used.
        data: folder with the data.
        work: folder in which runs are kept; made where it is missing.
        seeds: of each run.
        device: on which is trained.

    Raises:
        ConfigError: the configuration has one task only.
        DataError: the data cannot be used, or what is kept in ``work`` cannot be read.
    """

    def __init__(
        self, settings: TrainingSettings, data: Path, work: Path, seeds: Sequence[int], device: torch.device
    ) -> None:
        self._tasks = compared_tasks(settings)
        self._data, self._device, self._loaded = data, device, load_sets(settings.datasets, data)
        super().__init__(declared_runs(settings, seeds, fingerprint(self._loaded, data)), work, NetworkOutcome)

    def _do(self, run: StudyRun[TrainingSettings], stop: Stop) -> Generator[int, None, NetworkOutcome | None]:
        tasks = self._tasks if run.name == JOINT else (run.name,)
        folder = self.folder(run)
        saved = yield from trained(run, self._data, folder, self._loaded, self._device, stop, tasks)
        return None if saved is None else self._measured(run, tasks, saved)

    def _measured(
        self, run: StudyRun[TrainingSettings], tasks: tuple[TaskName, ...], saved: Checkpoint
    ) -> NetworkOutcome:
        """Export a run's network, score it, and say what it costs."""
        side, network = frame_size(run.settings), saved.settings.network
        truth = configured_truth(run.settings, self._data, tasks)
        with tempfile.TemporaryDirectory() as folder:
            export(Trained.of(saved), Path(folder), (side, side), THRESHOLDS)
            report = evaluate_model(load_model(folder), truth)
        spent = cost(network, len(saved.objects), len(saved.scenes), (side, side))
        return NetworkOutcome(
            name=run.name,
            number=run.number,
            tasks=tasks,
            steps=saved.step,
            frame_size=side,
            figures=figures_of(report),
            parameters=spent.parameters,
            macs={entry: sum(part.macs for part in parts.values()) for entry, parts in spent.entries.items()},
        )
