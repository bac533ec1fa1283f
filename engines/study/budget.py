"""How many steps fit into so many hours, by a short trial of every run of a comparison."""

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import torch
from msgspec.structs import replace

from engines.compiling.validation import evaluate_checkpoint, validation_scores
from engines.data.reading import read_json
from engines.errors import ConfigError
from engines.evaluation.truth import configured_truth
from engines.study.comparison import JOINT, Name, Sets, frame_size
from engines.study.pace import timed
from engines.study.writing import write_bytes
from engines.training.checkpoint import Checkpoint
from engines.training.settings import TrainingSettings

BUDGETS = "budgets.json"
TRIAL_STEPS = 16  # spread over the phases as the run's are


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """What a trial said."""

    key: str  # of the configuration, the hours and the seeds
    steps: int  # of each run
    step_seconds: dict[Name, float]
    measure_seconds: float  # the joint network exported and scored
    validate_seconds: float  # a validation of it


def kept_budget(work: Path, key: str) -> Budget | None:
    """The budget of this key from an earlier call, so that a comparison that is gone on with keeps its steps.

    Raises:
        DataError: what is kept in ``work`` cannot be read.
    """
    file = work / BUDGETS
    kept = read_json(file, list[Budget], "a list of budgets") if file.exists() else []
    return next((budget for budget in kept if budget.key == key), None)


def budget_key(settings: TrainingSettings, hours: float, seeds: Sequence[int]) -> str:
    """16 hex digits that change with what a budget depends on, but for the machine."""
    text = msgspec.json.encode((replace(settings, name="-"), hours, sorted(seeds)))
    return hashlib.sha256(text).hexdigest()[:16]


def fit_budget(
    settings: TrainingSettings,
    sets: Sets,
    work: Path,
    hours: float,
    seeds: Sequence[int],
    device: torch.device,
    told: Callable[[str], None] = lambda _: None,
) -> Budget:
    """Time every run on this machine, choose the steps of each so that all end within ``hours``, and keep that.

    Single-task networks, taken together, are reckoned to be scored in the time of the joint one.

    Raises:
        ConfigError: the hours do not even suffice to score the networks.
    """
    told("timing steps")
    trainers, step_seconds = timed(settings, TRIAL_STEPS, sets, device)
    told("timing the figures")
    joint = trainers[JOINT]
    measure_seconds, validate_seconds = _scoring_seconds(joint.checkpoint(), joint.settings, sets.data)
    # How often a run is validated does not depend on its steps.
    validations = settings.steps // settings.validation.steps if settings.validation else 0
    scoring = 2 * (measure_seconds + validations * validate_seconds)
    steps = int((hours * 3600 / len(seeds) - scoring) / sum(step_seconds.values()))
    if steps < 1:
        raise ConfigError(
            f"--hours is {hours:g}, and just to score the networks takes {scoring * len(seeds) / 3600:.2f}"
        )
    budget = Budget(
        key=budget_key(settings, hours, seeds),
        steps=steps,
        step_seconds=step_seconds,
        measure_seconds=measure_seconds,
        validate_seconds=validate_seconds,
    )
    work.mkdir(parents=True, exist_ok=True)
    file = work / BUDGETS
    others = read_json(file, list[Budget], "a list of budgets") if file.exists() else []
    write_bytes(file, msgspec.json.encode([*others, budget]))
    return budget


def _scoring_seconds(saved: Checkpoint, settings: TrainingSettings, data: Path) -> tuple[float, float]:
    """How long the last scoring of a network takes, and how long a validation."""
    truth = configured_truth(settings, data, settings.network.tasks)
    began = time.monotonic()
    evaluate_checkpoint(saved, truth, frame_size(settings))
    measured = time.monotonic()
    if settings.validation:
        validation_scores(saved, data, settings.validation)
    return measured - began, time.monotonic() - measured
