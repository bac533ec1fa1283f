"""``trunkline evaluate rates`` on a made clip, with a model that sees a person and its face in everything bright."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from engines.errors import ConfigError, TrunklineError
from tests.pipeline.made_runs import write_model
from tools.evaluate import app

FRAMES = 50


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["rates", *arguments])
    if isinstance(result.exception, TrunklineError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def clip(make_clip: Callable[..., Path], tmp_path: Path) -> Path:
    def flickering(index: int) -> np.ndarray:
        return np.full((120, 160, 3), 150 + 10 * (index % 5), np.uint8)

    return make_clip(tmp_path / "clip.mp4", FRAMES, (160, 120), 25, flickering)


def test_each_rate_is_held_against_the_full_one(clip: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model").path
    said = run(str(clip), "--model", str(model), "--fps", "5,10,30,auto", "--json")
    found = json.loads(said[f"\n{said}".index("\n[") :])  # log lines come before it
    assert [each["fps"] for each in found] == ["full", 5.0, 10.0, "auto"], "30 is no lower than the clip's own"
    full, five, ten, auto = found
    assert [each["inferred"] for each in found] == [50, 10, 20, 50]
    assert full["tracks"] > 0 and full["boxes"] > 0 and full["events"] > 0
    for each in (full, auto):
        for what in ("boxes", "tracks", "events"):
            assert each[f"{what}_found"] == full[what]
        assert (each["events_added"], each["delay_s"]) == (0, 0.0)
    assert five["tracks_found"] == ten["tracks_found"] == full["tracks"], "it stands still"
    assert five["boxes_found"] < full["boxes"], "it is shown later"
    assert 0.0 < ten["delay_s"] <= five["delay_s"]
    assert five["network_ms_per_s"] < full["network_ms_per_s"]


@pytest.mark.parametrize("word", ["none", "0", "-1", "inf"])
def test_what_is_no_rate_is_refused(clip: Path, word: str) -> None:
    with pytest.raises(ConfigError, match=f"--fps has '{word}', but must be numbers above 0, full or auto"):
        run(str(clip), "--fps", f"5,{word}")
