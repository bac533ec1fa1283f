import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from msgspec.structs import replace
from torch import Tensor

from engines.errors import ConfigError, DataError
from engines.spec import USUAL_TASKS
from engines.study.comparison import (
    OUTCOME,
    Sets,
    TaskComparison,
    TrainingRun,
    compared_tasks,
    declared_runs,
    frame_size,
    seen_of,
    shortened,
)
from engines.training.settings import TrainingSettings, ValidationSettings
from engines.training.trainer import Trainer
from tests.engines.study.made_outcomes import two_tasks
from tests.engines.training.made_data import SETS, tiny_settings

CPU = torch.device("cpu")
LABELS = {
    "objects": ["detection"],
    "faces": ["detection", "face_detection", "face_landmarks"],
    "scene": ["scenes"],
    "identity": ["identities"],
}


def trainer_of(run: TrainingRun, sets: Sets) -> Trainer:
    loaded = sets.loaded
    return Trainer(run.settings, loaded.sets, (loaded.objects, loaded.scenes), CPU, tasks=run.tasks)


def shown(trainer: Trainer) -> list[tuple[str, Tensor]]:
    """The set and the pictures of every micro-batch of the run that the network learns from."""
    found, make = [], trainer._make

    def watched(draw):  # type: ignore[no-untyped-def]  # a private step of the trainer
        batch = make(draw)
        found.append((trainer.sets[draw.dataset].name, batch.pictures.clone()))
        return batch

    trainer._make = watched  # type: ignore[method-assign]
    while trainer.step < trainer.settings.steps:
        trainer.train_step()
    return found


def test_a_task_alone_sees_the_very_pictures_that_the_joint_network_sees_of_its_sets(data: Path) -> None:
    settings = tiny_settings(steps=3)
    sets = Sets(settings, data)
    joint, *single = declared_runs(settings, [7])
    seen = shown(trainer_of(joint, sets))
    assert Counter(name for name, _ in seen) == {k: v.micro_batches for k, v in seen_of(joint, sets.sizes).items()}
    for run in single:
        mine = shown(trainer_of(run, sets))
        theirs = [(name, pictures) for name, pictures in seen if name in LABELS[run.name]]
        assert [name for name, _ in mine] == [name for name, _ in theirs]
        assert all(torch.equal(one, other) for (_, one), (_, other) in zip(mine, theirs, strict=True))
        counted = seen_of(run, sets.sizes)
        assert list(counted) == LABELS[run.name]
        assert Counter(name for name, _ in mine) == {k: v.micro_batches for k, v in counted.items()}
        assert counted == {name: seen for name, seen in seen_of(joint, sets.sizes).items() if name in counted}


def test_a_task_alone_has_its_own_head_and_the_same_first_trunk(data: Path) -> None:
    settings = tiny_settings()
    sets = Sets(settings, data)
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
    trainer = trainer_of(identity, Sets(settings, data))
    states = [[p.clone() for p in trainer.network.parameters()]]
    for _ in range(4):
        trainer.train_step()
        states.append([p.clone() for p in trainer.network.parameters()])
    moved = [any(not torch.equal(a, b) for a, b in zip(one, other, strict=True)) for one, other in pairwise(states)]
    assert moved.count(True) == seen_of(identity, {"scenes": 12, "identities": 6})["identities"].micro_batches - 1 == 2


def test_runs_differ_in_task_and_seed_alone() -> None:
    runs = declared_runs(tiny_settings(), [0, 1])
    assert [(run.seed, run.name) for run in runs] == [
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


def test_a_shorter_run_keeps_its_shares_and_does_not_end_early() -> None:
    settings = tiny_settings(
        steps=1000, warmup_steps=100, gradient_steps=50, validation=ValidationSettings(steps=250, patience=3)
    )
    short = shortened(settings, 100)
    assert (short.steps, short.warmup_steps, short.gradient_steps) == (100, 10, 5)
    assert short.validation == ValidationSettings(steps=25, patience=None)
    assert shortened(tiny_settings(gradient_steps=0), 3).gradient_steps == 0


def test_a_configuration_of_one_task_is_refused() -> None:
    assert compared_tasks(tiny_settings(*SETS[:2])) == ("objects", "faces")
    with pytest.raises(ConfigError, match=r"two tasks in common to compare, got scene"):
        compared_tasks(tiny_settings("scenes"))


def test_the_frame_entry_is_as_large_as_in_validation_else_as_in_training() -> None:
    assert frame_size(two_tasks()) == 32
    assert frame_size(tiny_settings()) == 64


def comparison(data: Path, work: Path, settings: TrainingSettings | None = None) -> TaskComparison:
    base = settings or shortened(two_tasks(), 6)
    return TaskComparison(base, Sets(base, data), work, [0], CPU)


def test_an_interrupted_comparison_ends_as_one_that_was_not(data: Path, tmp_path: Path) -> None:
    base = replace(shortened(two_tasks(), 2), gradient_steps=1, validation=ValidationSettings(steps=2, frame_size=32))
    whole = comparison(data, tmp_path / "whole", base)
    steps = [(now.name, now.step) for now in whole.run() if not now.measuring]
    assert steps == [(name, step) for name in ("joint", "scene", "identity") for step in (1, 2)]

    work = tmp_path / "work"
    (joint_run,) = (tmp_path / "whole").glob("joint-*")
    shutil.copytree(joint_run, work / joint_run.name)  # finished; interrupted in the first step of the second run
    first = comparison(data, work, base)
    assert [(now.name, now.step) for now in first.run(lambda: True)] == [("scene", 1)]
    assert [outcome.name for outcome in first.outcomes] == ["joint"]
    again = comparison(data, work, base)
    assert [(now.name, now.step) for now in again.run() if not now.measuring] == steps[3:]
    assert again.outcomes == whole.outcomes
    assert list(comparison(data, work, base).run()) == []

    joint, scene, _ = whole.outcomes
    assert joint.tasks == ("scene", "identity") and scene.tasks == ("scene",)
    assert {"scene.top1", "identity.accuracy"} < joint.figures.keys() > scene.figures.keys()
    assert joint.curves["score.scene"][0] == [2]
    assert joint.cosines.keys() == {"gradient.identity.scene"} and scene.cosines == {}
    assert joint.macs.keys() == {"frame", "face"} and scene.macs.keys() == {"frame"}
    assert joint.parameters > scene.parameters
    assert {name: model.spec.network.tasks for name, model in whole.models().items()} == {
        each.name: each.tasks for each in whole.outcomes
    }


def test_runs_of_other_data_are_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    settings = replace(shortened(two_tasks(), 1), validation=None)
    done = comparison(data, tmp_path / "work", settings)
    for now in done.run():
        if now.name == "scene":
            break
    file = next((tmp_path / "work").glob(f"joint-*/{OUTCOME}"))
    file.write_text(file.read_text().replace('"scenes":12', '"scenes":11'))
    with pytest.raises(DataError, match="holds runs on other data"):
        list(comparison(data, tmp_path / "work", settings).run())
