from pathlib import Path

import pytest

from engines.study import speed as module
from engines.study.comparison import JOINT
from engines.study.speed import SPEED, speed_of
from tests.engines.made_models import write_model, write_partial_model


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TURN_S", 0.001)
    monkeypatch.setattr(module, "ROUNDS", 3)


def test_every_entry_is_measured_once_and_again_for_other_models(tmp_path: Path) -> None:
    models = {
        JOINT: write_model(tmp_path / "joint"),
        "scene": write_partial_model(tmp_path / "scene", "scene"),
        "identity": write_partial_model(tmp_path / "identity", "identity"),
    }
    found = speed_of(models, tmp_path)
    assert [(each.name, each.entry) for each in found.entries] == [
        (JOINT, "frame"),
        (JOINT, "face"),
        ("scene", "frame"),
        ("identity", "face"),
    ]
    assert all(0 < each.low <= each.images_per_s <= each.high for each in found.entries)
    alone = {each.entry: each.images_per_s for each in found.entries if each.name != JOINT}
    assert found.apart == alone  # of one single-task network an entry, together is alone
    assert speed_of(models, tmp_path) == found
    others = {JOINT: models["scene"], "scene": models["scene"]}
    assert [each.entry for each in speed_of(others, tmp_path).entries] == ["frame", "frame"]
    assert (tmp_path / SPEED).is_file()
