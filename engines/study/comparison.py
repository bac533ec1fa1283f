"""One multi-task network against one single-task network per task: same trunk, data, pictures and schedule.

The single-task network of a task is trained by the very run of the joint network, from which the other tasks' heads
and losses are gone, and with them the micro-batches that label none of its own: at each step it sees the same pictures
of its sets, augmented alike, at the same size and learning rate. What is finished is kept, a run in a folder of its
own, so that an interrupted comparison goes on.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

import msgspec
import torch
from msgspec.structs import replace

from engines.compiling.export import Trained, export
from engines.compiling.validation import validation_scores
from engines.data.reading import read_json
from engines.errors import ConfigError, DataError
from engines.evaluation.report import evaluate_model
from engines.evaluation.truth import configured_truth
from engines.network.cost import cost
from engines.spec import EntryName, Model, TaskName, Thresholds, load_model
from engines.study.machine import TrainingMachine
from engines.study.metrics import Figures, figures_of
from engines.study.writing import write_bytes
from engines.training.checkpoint import Checkpoint, load_checkpoint
from engines.training.curves import LOG, CurveLog, Series, read_log
from engines.training.datasets import LoadedDatasets, load_sets
from engines.training.loop import CHECKPOINT, train
from engines.training.sampling import SetSampler
from engines.training.settings import DatasetSettings, TrainingSettings

JOINT: Final = "joint"
OUTCOME, MODEL = "outcome.json", "model"
CURVE_POINTS = 50  # of each curve of a run
# Low, so that landmarks are measured on nearly all faces that are found at all: at a higher one, the network that is
# less sure would be measured on the easier faces.
THRESHOLDS = Thresholds(face_score=0.1)

Name = Literal["joint"] | TaskName


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One training run."""

    name: Name
    seed: int
    tasks: tuple[TaskName, ...]
    settings: TrainingSettings

    @property
    def key(self) -> str:
        """16 hex digits that change with anything that the run depends on, but for its name, the data and the code."""
        text = msgspec.json.encode(replace(self.settings, name="-")) + " ".join(self.tasks).encode()
        return hashlib.sha256(text).hexdigest()[:16]

    @property
    def folder(self) -> str:
        return f"{self.name}-{self.seed}-{self.key}"


class SetUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a run saw of a set."""

    micro_batches: int
    pictures: int  # that the network saw; one that it saw twice counts twice


class RunOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """A finished run."""

    key: str
    name: Name
    seed: int
    tasks: tuple[TaskName, ...]
    steps: int
    sizes: dict[str, int]  # pictures in each set of the data
    seen: dict[str, SetUse]  # by set
    frame_size: int  # side of the exported frame entry, pixels
    figures: Figures
    parameters: int
    macs: dict[EntryName, int]  # multiply-accumulates of a picture
    curves: Series  # validation scores (score.TASK) and losses (TASK.total)
    cosines: dict[str, float]  # gradient.A.B: mean over the run
    machine: TrainingMachine

    @property
    def pictures(self) -> int:
        return sum(seen.pictures for seen in self.seen.values())


@dataclass(frozen=True, slots=True)
class ComparisonProgress:
    """Where a comparison is."""

    name: Name
    seed: int
    step: int
    steps: int
    done: int  # runs that are finished
    measuring: bool = False  # the training of this one is over


def labelled_tasks(entry: DatasetSettings) -> tuple[TaskName, ...]:
    """The tasks that a set has labels of."""
    return entry.labelled


def compared_tasks(settings: TrainingSettings) -> tuple[TaskName, ...]:
    """The tasks of a joint configuration.

    Raises:
        ConfigError: there is one only.
    """
    labelled = {task for entry in settings.datasets for task in labelled_tasks(entry)}
    tasks = tuple(task for task in settings.network.tasks if task in labelled)
    if len(tasks) < 2:
        raise ConfigError(
            f"{settings.name}: network.tasks and the labels must have two tasks in common to compare, "
            f"got {', '.join(tasks) or 'none'}"
        )
    return tasks


def shortened(settings: TrainingSettings, steps: int) -> TrainingSettings:
    """The same run in so many steps, with the same share of them before each event, and without an early end."""

    def scaled(count: int) -> int:
        return max(1, round(count * steps / settings.steps))

    validation = settings.validation
    return replace(
        settings,
        steps=steps,
        warmup_steps=round(settings.warmup_steps * steps / settings.steps),
        gradient_steps=settings.gradient_steps and scaled(settings.gradient_steps),
        validation=validation and replace(validation, steps=scaled(validation.steps), patience=None),
    )


def declared_runs(settings: TrainingSettings, seeds: Sequence[int]) -> tuple[TrainingRun, ...]:
    """All runs: seed by seed the joint one, then those of its tasks."""
    tasks = compared_tasks(settings)
    parts: list[tuple[Name, tuple[TaskName, ...]]] = [(JOINT, tasks), *((task, (task,)) for task in tasks)]
    return tuple(TrainingRun(name, seed, own, replace(settings, seed=seed)) for seed in seeds for name, own in parts)


def frame_size(settings: TrainingSettings) -> int:
    """Side of the exported frame entry, pixels: that of the validation, else the largest that is trained with."""
    if settings.validation:
        return settings.validation.frame_size
    return max((entry.size for entry in settings.datasets if entry.entry == "frame"), default=320)


def seen_of(run: TrainingRun, sizes: dict[str, int]) -> dict[str, SetUse]:
    """What a run sees of each of the sets that label its tasks, which have so many pictures."""
    settings, entries = run.settings, run.settings.datasets
    weights = [entry.weight for entry in entries]
    sampler = SetSampler(list(sizes.values()), weights, settings.temperature, settings.micro_batches)
    counts = Counter(row for _ in range(settings.steps) for row in sampler.step())
    return {
        entry.name: SetUse(micro_batches=counts[row], pictures=counts[row] * entry.batch)
        for row, entry in enumerate(entries)
        if set(labelled_tasks(entry)) & set(run.tasks)
    }


class Sets:
    """The training sets of a configuration, read when they are first asked for, and then kept."""

    def __init__(self, settings: TrainingSettings, data: Path) -> None:
        self.data = data
        self._settings = settings

    @cached_property
    def loaded(self) -> LoadedDatasets:
        """The sets, in memory; DataError if they cannot be read."""
        return load_sets(self._settings.datasets, self.data)

    @property
    def sizes(self) -> dict[str, int]:
        return {each.name: len(each) for each in self.loaded.sets}


class TaskComparison:
    """The runs of a joint configuration and of its tasks alone, with all seeds.

    Args:
        settings: the joint configuration; its seed is not used.
        sets: its data.
        work: folder in which runs are kept; made where it is missing.
        seeds: of each run.
        device: on which is trained.

    Raises:
        ConfigError: the configuration has one task only.
        DataError: what is kept in ``work`` cannot be read.
    """

    def __init__(
        self, settings: TrainingSettings, sets: Sets, work: Path, seeds: Sequence[int], device: torch.device
    ) -> None:
        self.runs = declared_runs(settings, seeds)
        self._sets, self._work, self._device = sets, work, device
        self._outcomes = {run.key: self._kept(run) for run in self.runs if (self._folder(run) / OUTCOME).exists()}
        if len({tuple(outcome.sizes.items()) for outcome in self.outcomes}) > 1:
            raise DataError(f"--work {work}: holds runs on other data: its sets have other sizes")

    @property
    def outcomes(self) -> list[RunOutcome]:
        """The finished runs, in order."""
        return [self._outcomes[run.key] for run in self.runs if run.key in self._outcomes]

    def models(self) -> dict[Name, Model]:
        """The exported networks of the first seed, all of which are finished."""
        first = [run for run in self.runs if run.seed == self.runs[0].seed]
        return {run.name: load_model(self._folder(run) / MODEL) for run in first}

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[ComparisonProgress]:
        """Do the runs that are not finished yet, a training step at a time.

        Args:
            stop: asked after each step whether to end early; what was done is gone on with the next time.

        Raises:
            DataError: the data cannot be used, or is not that of the finished runs.
            TrainingError: a loss is no longer a number.
        """
        for run in self.runs:
            if run.key in self._outcomes:
                continue
            if any(outcome.sizes != self._sets.sizes for outcome in self.outcomes):
                raise DataError(f"--work {self._work}: holds runs on other data: its sets have other sizes")
            yield from self._train(run, stop)
            saved = load_checkpoint(self._folder(run) / CHECKPOINT)
            if saved.step < run.settings.steps:
                return
            yield ComparisonProgress(run.name, run.seed, saved.step, saved.step, len(self.outcomes), measuring=True)
            self._keep(run, self._measured(run, saved))

    def _folder(self, run: TrainingRun) -> Path:
        return self._work / run.folder

    def _kept(self, run: TrainingRun) -> RunOutcome:
        return read_json(self._folder(run) / OUTCOME, RunOutcome, "an outcome of a run")

    def _keep(self, run: TrainingRun, outcome: RunOutcome) -> None:
        write_bytes(self._folder(run) / OUTCOME, msgspec.json.encode(outcome))
        self._outcomes[run.key] = outcome

    def _train(self, run: TrainingRun, stop: Callable[[], bool]) -> Iterator[ComparisonProgress]:
        """Begin a run, or go on with it, and log its curves."""
        settings, folder = run.settings, self._folder(run)
        folder.mkdir(parents=True, exist_ok=True)
        every, done = max(1, settings.steps // CURVE_POINTS), len(self.outcomes)

        def validate(saved: Checkpoint) -> dict[str, float]:
            assert settings.validation is not None
            return validation_scores(saved, self._sets.data, settings.validation)

        steps = train(
            settings,
            self._sets.data,
            folder,
            resume=True,
            device=self._device,
            loaded=self._sets.loaded,
            tasks=run.tasks,
            validate=validate if settings.validation else None,
            stop=stop,
        )
        with (folder / LOG).open("a", newline="") as file:
            log = CurveLog(file)
            for now in steps:
                if now.step % every == 0 or now.step == now.steps:
                    log.write(now, now.losses)
                if now.scores:
                    log.write(now, {f"score.{name}": score for name, score in now.scores.items()})
                yield ComparisonProgress(run.name, run.seed, now.step, now.steps, done)

    def _measured(self, run: TrainingRun, saved: Checkpoint) -> RunOutcome:
        """Export a run's network, score it, and say what it cost."""
        settings, folder, side = saved.settings, self._folder(run), frame_size(run.settings)
        trained = Trained(f"{settings.name} {run.name}", settings.network, saved.ema, saved.objects, saved.scenes)
        export(trained, folder / MODEL, (side, side), THRESHOLDS)
        report = evaluate_model(load_model(folder / MODEL), configured_truth(run.settings, self._sets.data, run.tasks))
        spent = cost(settings.network, len(saved.objects), len(saved.scenes), (side, side))
        series = read_log(folder / LOG)
        return RunOutcome(
            key=run.key,
            name=run.name,
            seed=run.seed,
            tasks=run.tasks,
            steps=saved.step,
            sizes=self._sets.sizes,
            seen=seen_of(run, self._sets.sizes),
            frame_size=side,
            figures=figures_of(report),
            parameters=spent.parameters,
            macs={entry: sum(part.macs for part in parts.values()) for entry, parts in spent.entries.items()},
            curves={
                name: rows for name, rows in series.items() if name.startswith("score.") or name.endswith(".total")
            },
            cosines=_mean_cosines(series),
            machine=TrainingMachine.of(self._device),
        )


def _mean_cosines(series: Series) -> dict[str, float]:
    cosines = {name: values for name, (_, values) in series.items() if name.startswith("gradient.")}
    return {name: sum(values) / len(values) for name, values in cosines.items() if name.count(".") == 2}
