from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from msgspec.structs import replace

from engines.errors import ConfigError
from engines.study import budget as module
from engines.study.budget import budget_key, fit_budget, kept_budget
from engines.study.comparison import Sets
from engines.training.settings import ValidationSettings
from tests.engines.study.made_outcomes import two_tasks

CPU = torch.device("cpu")
STEP_S = {"joint": 2.0, "scene": 0.5, "identity": 1.5}
SETTINGS = replace(two_tasks(), steps=1000, validation=ValidationSettings(steps=250))


@pytest.fixture
def _timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose times are known: 200 s to score the joint network, 50 s to validate it."""

    joint = SimpleNamespace(checkpoint=lambda: None, settings=SETTINGS)
    monkeypatch.setattr(module, "timed", lambda *_: ({"joint": joint}, STEP_S))
    monkeypatch.setattr(module, "_scoring_seconds", lambda *_: (200.0, 50.0))


@pytest.mark.usefixtures("_timed")
def test_the_steps_are_those_that_fit(tmp_path: Path) -> None:
    found = fit_budget(SETTINGS, Sets(SETTINGS, tmp_path), tmp_path, 1.0, [0, 1], CPU)
    # Half an hour a seed, less scoring and four validations of the joint network and, together, of the others.
    assert found.steps == (1800 - 2 * (200 + 4 * 50)) // 4
    assert found.step_seconds == STEP_S


@pytest.mark.usefixtures("_timed")
def test_a_budget_is_kept_for_its_hours_and_seeds(tmp_path: Path) -> None:
    sets = Sets(SETTINGS, tmp_path)
    assert kept_budget(tmp_path, budget_key(SETTINGS, 1.0, [0, 1])) is None
    one, other = (fit_budget(SETTINGS, sets, tmp_path, hours, [0, 1], CPU) for hours in (1.0, 2.0))
    assert kept_budget(tmp_path, budget_key(SETTINGS, 1.0, [1, 0])) == one
    assert kept_budget(tmp_path, budget_key(SETTINGS, 2.0, [0, 1])) == other
    assert kept_budget(tmp_path, budget_key(SETTINGS, 2.0, [0])) is None


@pytest.mark.usefixtures("_timed")
def test_hours_that_do_not_suffice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--hours is 0.2, and just to score the networks takes 0.22"):
        fit_budget(SETTINGS, Sets(SETTINGS, tmp_path), tmp_path, 0.2, [0], CPU)


def test_every_network_is_timed(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRIAL_STEPS", 3)
    settings, told = two_tasks(), list[str]()
    sets = Sets(settings, data)
    found = fit_budget(settings, sets, tmp_path / "work", 1.0, [0], CPU, told.append)
    assert told == ["timing steps", "timing the figures"]
    assert found.step_seconds.keys() == STEP_S.keys()
    assert min(*found.step_seconds.values(), found.measure_seconds, found.validate_seconds) > 0.0
    spent = found.steps * sum(found.step_seconds.values()) + 2 * (found.measure_seconds + 2 * found.validate_seconds)
    assert spent == pytest.approx(3600, rel=0.01)
