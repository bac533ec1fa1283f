"""Outcomes of runs that nobody did, and a comparison small enough to be done in a test."""

from pathlib import Path

from msgspec.structs import replace

from engines.evaluation.bootstrap import Interval
from engines.spec import USUAL_TASKS, TaskName
from engines.study.comparison import JOINT, Name, RunOutcome, SetUse
from engines.study.machine import TrainingMachine
from engines.study.metrics import METRICS, ScoredFigure
from engines.study.pace import Pace
from engines.study.speed import EntrySpeed, EntrySpeeds
from engines.training.settings import TrainingSettings, ValidationSettings
from tests.engines.evaluation.colours import write_data
from tests.engines.training.made_data import TINY, tiny_settings, write_training_data

SIZES = {"pictures": 100, "crops": 50}
MACHINE = TrainingMachine(cpu="A processor", cores=2, instructions=(), device="cpu", threads=2, pytorch="2.0")


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


def outcome(name: Name, seed: int, value: float, tasks: tuple[TaskName, ...] = USUAL_TASKS) -> RunOutcome:
    """A run all of whose figures have the same value, in intervals of 0.1 to either side."""
    own = tasks if name == JOINT else (name,)
    figure = ScoredFigure(value, Interval(value - 0.1, value + 0.1))
    seen = {"crops": SetUse(micro_batches=10, pictures=640)} if "identity" in own else {}
    if own != ("identity",):
        seen["pictures"] = SetUse(micro_batches=20, pictures=320)
    pairs = {"gradient.faces.identity": -0.25, "gradient.faces.objects": 0.5} if name == JOINT else {}
    return RunOutcome(
        key=f"{name} {seed}",
        name=name,
        seed=seed,
        tasks=own,
        steps=10,
        sizes=SIZES,
        seen=seen,
        frame_size=64,
        figures={metric.key: figure for metric in METRICS if metric.task in own},
        parameters=1_000_000,
        macs={"frame": 400_000_000} if own != ("identity",) else {"face": 40_000_000},
        curves={f"score.{task}": ([5, 10], [value / 2, value]) for task in own},
        cosines=pairs,
        machine=MACHINE,
    )


def outcomes(seeds: int, tasks: tuple[TaskName, ...] = USUAL_TASKS) -> list[RunOutcome]:
    """The joint figures are 0.6 and 0.01 more for each further seed, the single-task ones 0.5."""
    return [
        outcome(name, seed, 0.6 + 0.01 * seed if name == JOINT else 0.5, tasks)
        for seed in range(seeds)
        for name in (JOINT, *tasks)
    ]


SPEED = EntrySpeeds(
    fingerprints={},
    backend="openvino",
    precision="bf16",
    device="CPU",
    entries=(
        EntrySpeed(name=JOINT, entry="frame", images_per_s=800.0, low=700.0, high=900.0),
        EntrySpeed(name="objects", entry="frame", images_per_s=1000.0, low=1000.0, high=1000.0),
    ),
    apart={"frame": 333.0},
)

PACE = Pace(
    key="",
    rounds=3,
    step_seconds={JOINT: 12.0, "objects": 5.0, "faces": 5.0, "scene": 1.0, "identity": 1.0},
    machine=MACHINE,
)
