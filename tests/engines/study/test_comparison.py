import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from engines.errors import ConfigError
from engines.spec import USUAL_TASKS
from engines.study.comparison import (
    NetworkOutcome,
    TaskComparison,
    compared_tasks,
    declared_runs,
    frame_size,
    shortened,
)
from engines.study.runs import StudyRun
from engines.training.augmentation import MicroBatch
from engines.training.checkpoint import Checkpoint
from engines.training.datasets import LoadedDatasets, load_sets
from engines.training.micro_batches import Draw
from engines.training.sampling import SetSampler
from engines.training.settings import TrainingSettings, ValidationSettings
from engines.training.trainer import Trainer
from tests.engines.study.made_outcomes import outcome, two_tasks, write_both
from tests.engines.training.made_data import SETS, tiny_settings

pytestmark = pytest.mark.usefixtures("single_requests")
CPU = torch.device("cpu")
LABELS = {
    "objects": ["detection"],
    "faces": ["detection", "face_detection", "face_landmarks"],
    "scene": ["scenes"],
    "identity": ["identities"],
}


def trainer_of(run: StudyRun[TrainingSettings], loaded: LoadedDatasets) -> Trainer:
    tasks = compared_tasks(run.settings) if run.name == "joint" else (run.name,)
    return Trainer(run.settings, loaded.sets, (loaded.objects, loaded.scenes), CPU, tasks=tasks)


def shown(trainer: Trainer) -> list[tuple[str, Tensor]]:
    """The set and the pictures of every micro-batch of the run that the network learns from."""
    found: list[tuple[str, Tensor]] = []
    make = trainer.maker.make

    def watched(draw: Draw) -> MicroBatch:
        batch = make(draw)
        found.append((trainer.sets[draw.dataset].name, batch.pictures.clone()))
        return batch

    trainer.maker.make = watched  # type: ignore[method-assign]
    while trainer.step < trainer.settings.steps:
        trainer.train_step()
    return found


def test_a_task_alone_sees_the_very_pictures_that_the_joint_network_sees_of_its_sets(data: Path) -> None:
    settings = tiny_settings(steps=3)
    sets = load_sets(settings.datasets, data)
    joint, *single = declared_runs(settings, [7])
    seen = shown(trainer_of(joint, sets))
    assert {name for name, _ in seen} == set(SETS)
    for run in single:
        mine = shown(trainer_of(run, sets))
        theirs = [(name, pictures) for name, pictures in seen if name in LABELS[run.name]]
        assert [name for name, _ in mine] == [name for name, _ in theirs]
        assert all(torch.equal(one, other) for (_, one), (_, other) in zip(mine, theirs, strict=True))


def test_a_task_alone_has_its_own_head_and_the_same_first_trunk(data: Path) -> None:
    settings = tiny_settings()
    sets = load_sets(settings.datasets, data)
    joint, *single = (trainer_of(run, sets) for run in declared_runs(settings, [0]))
    assert joint.settings.network.tasks == USUAL_TASKS
    for task, trainer in zip(USUAL_TASKS, single, strict=True):
        assert trainer.settings.network.tasks == (task,)
        assert [name for name, _ in trainer.network.named_children() if name not in ("trunk", "neck")] == [task]
        theirs = joint.network.trunk.state_dict()  # with the normalisations of both entries
        assert all(torch.equal(mine, theirs[name]) for name, mine in trainer.network.trunk.state_dict().items())


def test_a_step_without_a_micro_batch_of_the_task_leaves_its_network_as_it_is(data: Path) -> None:
    settings = replace(tiny_settings("scenes", "identities"), micro_batches=1, gradient_steps=1)
    *_, identity = declared_runs(settings, [0])
    trainer = trainer_of(identity, load_sets(settings.datasets, data))
    states = [[p.clone() for p in trainer.network.parameters()]]
    for _ in range(4):
        trainer.train_step()
        states.append([p.clone() for p in trainer.network.parameters()])
    moved = [any(not torch.equal(a, b) for a, b in zip(one, other, strict=True)) for one, other in pairwise(states)]
    sampler = SetSampler([12, 6], [entry.weight for entry in settings.datasets], settings.temperature, 1)
    assert moved == [row == 1 for _ in range(4) for row in sampler.step()]
    assert moved.count(True) == 2


def test_runs_differ_in_task_and_seed_alone() -> None:
    runs = declared_runs(tiny_settings(), [0, 1])
    assert [(run.number, run.name) for run in runs] == [
        (seed, name) for seed in (0, 1) for name in ("joint", *USUAL_TASKS)
    ]
    assert all(replace(run.settings, seed=0) == tiny_settings() for run in runs)
    assert len({run.key for run in runs}) == len(runs)


def test_the_key_is_of_what_is_done_and_not_of_what_it_is_called() -> None:
    (first, *_), (renamed, *_), (longer, *_) = (
        declared_runs(settings, [0])
        for settings in (tiny_settings(), tiny_settings(name="other"), tiny_settings(steps=7))
    )
    assert first.key == renamed.key != longer.key
    assert declared_runs(tiny_settings(), [0], "other data")[0].key != first.key


def test_a_shorter_run_keeps_its_shares() -> None:
    short = shortened(tiny_settings(steps=1000, warmup_steps=100, gradient_steps=50), 100)
    assert (short.steps, short.warmup_steps, short.gradient_steps) == (100, 10, 0)


def test_a_configuration_of_one_task_is_refused() -> None:
    assert compared_tasks(tiny_settings(*SETS[:2])) == ("objects", "faces")
    with pytest.raises(ConfigError, match=r"two tasks in common to compare, got scene"):
        compared_tasks(tiny_settings("scenes"))


def test_the_frame_entry_is_as_large_as_in_validation_else_as_in_training() -> None:
    assert frame_size(two_tasks()) == 32
    assert frame_size(tiny_settings()) == 64


def comparison(data: Path, work: Path, settings: TrainingSettings) -> TaskComparison:
    return TaskComparison(settings, data, work, [0], CPU)


def weighed(
    self: TaskComparison, run: StudyRun[TrainingSettings], tasks: tuple[str, ...], saved: Checkpoint
) -> NetworkOutcome:
    """In place of the scores of an exported network, which take seconds: its weights."""
    total = sum(float(weight.double().sum()) for weight in saved.ema.values())
    return outcome(run.name, run.number, total, ("scene", "identity"))


def test_an_interrupted_comparison_ends_as_one_that_was_not(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TaskComparison, "_measured", weighed)
    base = shortened(two_tasks(), 2)
    whole = comparison(data, tmp_path / "whole", base)
    steps = [(now.name, now.step) for now in whole.run()]
    assert steps == [(name, step) for name in ("joint", "scene", "identity") for step in (1, 2)]

    work, (joint_run, *_) = tmp_path / "work", whole.runs
    shutil.copytree(whole.folder(joint_run), work / joint_run.key)  # finished; interrupted early in the second run
    first = comparison(data, work, base)
    assert [(now.name, now.step) for now in first.run(lambda: True)] == [("scene", 1)]
    assert [outcome.name for outcome in first.outcomes] == ["joint"] and not first.over
    again = comparison(data, work, base)
    assert [(now.name, now.step) for now in again.run()] == steps[3:]
    assert again.outcomes == whole.outcomes and again.over
    assert list(comparison(data, work, base).run()) == []


def test_a_network_is_scored_on_its_own_tasks_through_its_exported_form(data: Path, tmp_path: Path) -> None:
    base = replace(shortened(two_tasks(), 1), validation=ValidationSettings(steps=1, frame_size=32))
    study = comparison(data, tmp_path, base)
    for now in study.run():
        if now.name == "identity":
            break
    joint, scene = study.outcomes
    assert joint.tasks == ("scene", "identity") and scene.tasks == ("scene",)
    assert {"scene.top1", "identity.accuracy"} < joint.figures.keys() > scene.figures.keys()
    assert joint.macs.keys() == {"frame", "face"} and scene.macs.keys() == {"frame"}
    assert joint.parameters > scene.parameters and joint.frame_size == 32


def test_runs_of_other_data_are_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TaskComparison, "_measured", weighed)
    data, settings = write_both(tmp_path / "data"), shortened(two_tasks(), 1)
    list(comparison(data, tmp_path / "work", settings).run())
    assert comparison(data, tmp_path / "work", settings).over
    next((data / "classification").rglob("train/*/*.*")).unlink()
    assert comparison(data, tmp_path / "work", settings).outcomes == []
