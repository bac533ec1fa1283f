"""How long a training step takes: one network for all tasks, against one for each."""

import hashlib
import time
from pathlib import Path

import msgspec
import torch
from msgspec.structs import replace

from engines.data.reading import read_json
from engines.study.comparison import Name, Sets, TrainingRun, declared_runs, shortened
from engines.study.machine import TrainingMachine
from engines.study.writing import write_bytes
from engines.training.settings import TrainingSettings
from engines.training.trainer import Trainer

PACE = "pace.json"
ROUNDS = 48  # in each of which every network does a step, so that a machine that is slower for a while slows all


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of all networks."""

    key: str  # of their runs
    rounds: int
    step_seconds: dict[Name, float]  # mean over the rounds
    machine: TrainingMachine


def pace_of(settings: TrainingSettings, sets: Sets, work: Path, device: torch.device) -> Pace:
    """Time steps of all networks of a configuration; what was measured before is kept in ``work``.

    Raises:
        DataError: the data cannot be used, or what is kept cannot be read.
        TrainingError: a loss is no longer a number.
    """
    key = hashlib.sha256(" ".join(run.key for run in _trials(settings, ROUNDS)).encode()).hexdigest()[:16]
    file = work / PACE
    if file.exists():
        kept = read_json(file, Pace, "a measured pace")
        if kept.key == key:
            return kept
    _, step_seconds = timed(settings, ROUNDS, sets, device)
    pace = Pace(key=key, rounds=ROUNDS, step_seconds=step_seconds, machine=TrainingMachine.of(device))
    write_bytes(file, msgspec.json.encode(pace))
    return pace


def timed(
    settings: TrainingSettings, steps: int, sets: Sets, device: torch.device
) -> tuple[dict[Name, Trainer], dict[Name, float]]:
    """Do short runs of all networks side by side, a step of each in turn.

    Args:
        settings: the joint configuration.
        steps: of each run; they are spread over the phases as those of a whole run are.
        sets: its data.
        device: on which is trained.

    Returns:
        The trainers after their last step, and the mean seconds of a step; a first one, which sets things up, does
        not count, and gradients are not compared.
    """
    loaded = sets.loaded
    pictures, labels = [each.to(device) for each in loaded.sets], (loaded.objects, loaded.scenes)
    trainers = {
        run.name: Trainer(run.settings, pictures, labels, device, tasks=run.tasks) for run in _trials(settings, steps)
    }
    seconds = dict.fromkeys(trainers, 0.0)
    for number in range(steps):
        for name, trainer in trainers.items():
            began = time.monotonic()
            trainer.train_step()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                seconds[name] += time.monotonic() - began
    return trainers, {name: spent / (steps - 1) for name, spent in seconds.items()}


def _trials(settings: TrainingSettings, steps: int) -> tuple[TrainingRun, ...]:
    return declared_runs(replace(shortened(settings, steps), gradient_steps=0), [settings.seed])
