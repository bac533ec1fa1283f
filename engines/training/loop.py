"""The joint training loop: steps, checkpoints, validation and the end."""

import time
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from engines.errors import ConfigError, TrainingError
from engines.spec import Model, TaskName, load_model
from engines.training.checkpoint import Checkpoint, load_checkpoint, milestone, save_checkpoint
from engines.training.datasets import LoadedDatasets, load_sets
from engines.training.dense import DenseTeacher
from engines.training.processes import Processes
from engines.training.settings import TrainingSettings, ValidationSettings
from engines.training.teaching import teach
from engines.training.trainer import Trainer
from engines.zoo import model_folder

Validate = Callable[[Checkpoint], Mapping[str, float]]  # scores of a checkpoint's averaged weights, by task

CHECKPOINT, PREVIOUS, BEST = "checkpoint.pt", "checkpoint-previous.pt", "best.pt"
MILESTONE = "milestone.pt"


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run is."""

    step: int
    steps: int
    seconds: float  # that the run has taken so far, over all its resumptions
    steps_per_s: float  # since this process began
    learning_rate: float
    losses: dict[str, float]  # raw task losses and their parts, and the tasks' gradients; running means
    scores: dict[str, float] = field(default_factory=dict)  # of a validation after this step, by task and as "mean"


@dataclass(slots=True)
class Patience:
    """The best validation so far, and whether it is time to give up hope of a better one."""

    settings: ValidationSettings
    best: float = float("-inf")
    since: int = 0  # validations since the best one

    def better(self, score: float) -> bool:
        """Take in a score, the mean over the tasks; whether it is the best so far."""
        if score > self.best + self.settings.least_gain:
            self.best, self.since = score, 0
            return True
        self.since += 1
        return False

    @property
    def over(self) -> bool:
        return self.settings.patience is not None and self.since >= self.settings.patience


def train(
    settings: TrainingSettings,
    data: Path,
    out: Path,
    *,
    resume: bool,
    init: Path | None = None,
    at_step: int = 0,
    cache: Path | None = None,
    device: torch.device,
    stop_at: int | None = None,
    teachers: Sequence[Model] = (),
    processes: Processes | None = None,
    loaded: LoadedDatasets | None = None,
    tasks: Collection[TaskName] | None = None,
    validate: Validate | None = None,
    stop: Callable[[], bool] = lambda: False,
    opened: Callable[[str], None] = lambda _: None,
) -> Generator[Progress, None, None]:
    """Train until the configured steps, yielding after each; checkpoints go to ``out/checkpoint.pt``.

    The one before is kept as ``out/checkpoint-previous.pt``, and none is written of weights that are not numbers. At
    the end ``out/milestone.pt`` has the averaged weights alone, to begin other runs with.
    With several processes, each calls this with the same arguments; only the leading one writes.

    Args:
        settings: the run.
        data: folder that the configuration's paths are in.
        out: folder of this run.
        resume: go on from ``out/checkpoint.pt`` when it is there.
        init: checkpoint of another run, a model folder or a released model's name, with whose weights this one begins.
        at_step: where in the schedule a run goes on that begins with a model folder.
        cache: folder for decoded pictures (:func:`load_sets`).
        device: where the network and the data live.
        stop_at: end early at this step, with a checkpoint.
        teachers: models whose word is taken for labels that the data lacks, and beside those that it has.
        processes: that train together; by default this one alone.
        loaded: the sets of the configuration, where they are in memory already.
        tasks: learn these alone (see :class:`Trainer`); by default all that the settings have and the data labels.
        validate: scores a checkpoint's averaged weights, by task, as often as ``settings.validation`` says. The one
            with the best mean is kept as ``out/best.pt``.
        stop: asked after each step whether to end early, with a checkpoint.
        opened: called with one line per set once they are in memory.

    Raises:
        ConfigError: parts of a network that begins with fresh weights are frozen.
        DataError: data or checkpoint cannot be used.
        TrainingError: losses, weights or the gradients of many steps in a row are no longer numbers; the last
            checkpoint is from before.
    """
    sets = loaded or load_sets(settings.datasets, data, objects=settings.objects, cache=cache)
    sets = teach(sets, teachers, opened)
    for each in sets.sets:
        opened(f"{each.name}: {len(each)} pictures, {len(each.broken)} unreadable")
    dense = None
    if settings.dense is not None:
        dense = DenseTeacher(data / settings.dense.detector, settings.dense, sets.objects, torch.get_num_threads())
    trainer = Trainer(settings, sets.sets, (sets.objects, sets.scenes), device, processes, tasks, dense)
    run = _Run(trainer, out, validate)
    run.begin(resume, init, at_step)
    yield from run.steps(min(settings.steps, stop_at or settings.steps), stop)


class _Run:
    """A trainer, and what lies in the folder of its run."""

    def __init__(self, trainer: Trainer, out: Path, validate: Validate | None) -> None:
        self.trainer = trainer
        self.out = out
        self.validate = validate
        validation = trainer.settings.validation
        self.patience = Patience(validation) if validation and validate else None
        self.before = 0.0  # seconds that the run took until it was resumed

    def begin(self, resume: bool, init: Path | None, at_step: int) -> None:
        """Take over what the run goes on from or begins with, and make its folder."""
        file = self.out / CHECKPOINT
        if resume and file.is_file():
            saved = load_checkpoint(file)
            self.trainer.restore(saved)
            self.before = saved.seconds
            if self.patience:
                self.patience.best, self.patience.since = saved.best
        elif init is not None and model_folder(init).is_dir():
            self.trainer.begin_from_model(load_model(init), at_step)
        elif init is not None:
            self.trainer.begin_from(load_checkpoint(init))
        elif len(self.trainer.still):
            given = self.trainer.settings
            raise ConfigError(
                "frozen_stages must be 0 and frozen_statistics false in a run that begins with fresh weights, "
                f"got {given.frozen_stages} and {str(given.frozen_statistics).lower()}: add --init"
            )
        self.out.mkdir(parents=True, exist_ok=True)

    def steps(self, end: int, stop: Callable[[], bool]) -> Generator[Progress, None, None]:
        """Train until the step ``end``, until ``stop`` says so, or until there is no hope of a better validation."""
        trainer, settings, processes = self.trainer, self.trainer.settings, self.trainer.processes
        began, first = time.monotonic(), trainer.step
        over = trainer.step >= end or self._hopeless
        while not over:
            rate = trainer.train_step()
            scores = self._validated()
            spent = time.monotonic() - began
            over = processes.agreed(stop() or trainer.step >= end or self._hopeless)
            if processes.leads and (over or trainer.step % settings.checkpoint_steps == 0):
                best = (self.patience.best, self.patience.since) if self.patience else (float("-inf"), 0)
                checkpoint = trainer.checkpoint(self.before + spent, best)
                self._save(checkpoint, CHECKPOINT, self.out / PREVIOUS)
                if over:
                    self._save(milestone(checkpoint), MILESTONE)
            speed = (trainer.step - first) / max(spent, 1e-9)
            yield Progress(trainer.step, settings.steps, self.before + spent, speed, rate, dict(trainer.means), scores)

    @property
    def _hopeless(self) -> bool:
        return self.patience is not None and self.patience.over

    def _validated(self) -> dict[str, float]:
        """The scores by task and, as "mean", the multi-task score, if this step is validated; the best one is kept."""
        trainer, processes = self.trainer, self.trainer.processes
        if self.validate is None or self.patience is None or trainer.step % self.patience.settings.steps:
            return {}
        own: dict[str, float] = {}
        if processes.leads:
            own = dict(self.validate(trainer.checkpoint()))
            own["mean"] = sum(own.values()) / len(own)
        scores = processes.agreed(own)
        if self.patience.better(scores["mean"]) and processes.leads:
            self._save(trainer.checkpoint(), BEST)
        return scores

    def _save(self, checkpoint: Checkpoint, name: str, previous: Path | None = None) -> None:
        if not self.trainer.finite():
            raise TrainingError(
                f"weights are no longer numbers at step {checkpoint.step}, and are not written to {self.out / name}: "
                "lower learning_rate, and go on from the last checkpoint with --resume"
            )
        save_checkpoint(checkpoint, self.out / name, previous)
