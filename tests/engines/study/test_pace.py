from pathlib import Path

import pytest
import torch
from msgspec.structs import replace

from engines.study import pace as module
from engines.study.comparison import Sets
from engines.study.pace import PACE, pace_of
from engines.training.trainer import Trainer
from tests.engines.study.made_outcomes import two_tasks

CPU = torch.device("cpu")


def test_networks_are_timed_in_turn_and_once(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    turns: list[tuple[str, ...]] = []
    step = Trainer.train_step

    def told(trainer: Trainer) -> float:
        turns.append(trainer.settings.network.tasks)
        assert not trainer.settings.gradient_steps  # which would count for the joint network alone
        return step(trainer)

    monkeypatch.setattr(Trainer, "train_step", told)
    monkeypatch.setattr(module, "ROUNDS", 3)
    settings, work = two_tasks(), tmp_path / "work"
    work.mkdir()
    sets = Sets(settings, data)
    found = pace_of(settings, sets, work, CPU)
    assert turns == 3 * [("scene", "identity"), ("scene",), ("identity",)]
    assert found.step_seconds.keys() == {"joint", "scene", "identity"}
    assert min(found.step_seconds.values()) > 0.0
    assert pace_of(settings, sets, work, CPU) == found and len(turns) == 9
    pace_of(replace(settings, micro_batches=3), sets, work, CPU)
    assert len(turns) == 18
    assert (work / PACE).is_file()
