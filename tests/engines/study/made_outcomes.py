"""Outcomes of runs that nobody did, and a comparison small enough to be done in a test."""

from pathlib import Path

from msgspec.structs import replace

from engines.evaluation.bootstrap import Interval
from engines.spec import USUAL_TASKS, TaskName
from engines.study.comparison import JOINT, NetworkOutcome
from engines.study.metrics import SHOWN, ScoredFigure
from engines.training.settings import TrainingSettings, ValidationSettings
from tests.engines.evaluation.colours import write_data
from tests.engines.training.made_data import TINY, tiny_settings, write_training_data


def write_both(folder: Path) -> Path:
    """Training and validation data of all tasks."""
    return write_data(write_training_data(folder))


def two_tasks() -> TrainingSettings:
    """Scenes and identities, six steps with two validations."""
    return tiny_settings(
        "scenes",
        "identities",
        network=replace(TINY, tasks=("scene", "identity")),
        micro_batches=2,
        gradient_steps=2,
        validation=ValidationSettings(steps=3, frame_size=32, patience=1),
    )


def outcome(name: str, seed: int, value: float, tasks: tuple[TaskName, ...] = USUAL_TASKS) -> NetworkOutcome:
    """A run all of whose figures have the same value, in intervals of 0.1 to either side."""
    own = tasks if name == JOINT else (name,)
    figure = ScoredFigure(value, Interval(value - 0.1, value + 0.1))
    return NetworkOutcome(
        name=name,
        number=seed,
        tasks=own,
        steps=10,
        frame_size=64,
        figures={f"{task}.{each}": figure for task in own for each in SHOWN[task]},
        parameters=1_000_000,
        macs={"frame": 400_000_000} if own != ("identity",) else {"face": 40_000_000},
    )


def outcomes(seeds: int, tasks: tuple[TaskName, ...] = USUAL_TASKS) -> list[NetworkOutcome]:
    """The joint figures are 0.6 and 0.01 more for each further seed, the single-task ones 0.5."""
    return [
        outcome(name, seed, 0.6 + 0.01 * seed if name == JOINT else 0.5, tasks)
        for seed in range(seeds)
        for name in (JOINT, *tasks)
    ]
