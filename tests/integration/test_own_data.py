"""Somebody's own COCO data, in folders of their own: one configuration trains, compiles, evaluates and runs it."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
import torch
from typer.testing import CliRunner

from engines.spec import load_model
from tests.engines.evaluation.colours import Colour, paint, write_coco
from tests.pipeline.made_runs import Run, check_books, make_config
from tools.main import app

CONFIG = """
name = "own"
steps = 60
micro_batches = 1
warmup_steps = 5
learning_rate = 0.01
ema_decay = 0.9
network = { channels = [8, 16, 16, 16, 16], neck = 16, towers = 1 }
validation = { steps = 60, frame_size = 96 }
[[datasets]]
name = "street"
images = "street/images"
objects = { format = "coco", file = "street/annotations/train.json" }
batch = 8
size = 96
[[validation_sets]]
name = "held out"
images = "street/images"
objects = { format = "coco", file = "street/annotations/check.json" }
"""
COLOURS: dict[str, Colour] = {"van": (230, 40, 40), "tram": (40, 60, 230)}
FRAMES = 8

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    structlog.reset_defaults()


def write_street(folder: Path) -> None:
    """A van and a tram in each picture, at random places and of random sizes."""
    generator = np.random.default_rng(0)
    for name, first, count in (("train", 0, 48), ("check", 48, 12)):
        pictures, rows = [], []
        for number in range(count):
            boxes = [
                ((left + int(generator.integers(20)), 4 + int(generator.integers(36)), 40, 44), label)
                for left, label in zip((4, 70), generator.permutation(list(COLOURS)).tolist(), strict=True)
            ]
            pictures.append(f"{first + number}.png")
            paint(folder / "images" / pictures[-1], (144, 96), [(box, COLOURS[label]) for box, label in boxes])
            rows += [
                {"image_id": number + 1, "category_id": list(COLOURS).index(label) + 1, "bbox": box}
                for box, label in boxes
            ]
        write_coco(folder, f"{name}.json", list(COLOURS), pictures, rows)


def verb(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_own_data_goes_from_a_configuration_to_messages(tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    write_street(tmp_path / "data/street")
    config, data = tmp_path / "own.toml", tmp_path / "data"
    config.write_text(CONFIG)

    verb("train", config, "--data", data, "--out", tmp_path / "run", "--threads", 1)
    assert (tmp_path / "run/best.pt").is_file(), "it was validated on the way"

    verb(
        "compile", tmp_path / "run/checkpoint.pt", "--data", data, "--out", tmp_path / "model", "--frame-size", "96x96"
    )
    model = load_model(tmp_path / "model")
    assert (model.spec.objects, model.spec.network.tasks) == (("van", "tram"), ("objects",))

    report = json.loads(verb("evaluate", "--model", tmp_path / "model", "--data", data, "--config", config, "--json"))
    assert report["objects"]["pictures"] == 12 and report["objects"]["ap50_by_label"].keys() == {"van", "tram"}
    assert report["objects"]["ap50"] > 0.1, "it has learnt something"
    assert "faces" not in report and report["data"] == f"{data}: held out"

    verb("compile", tmp_path / "model", "--precision", "int8", "--data", data, "--config", config, "--tolerance", 0.5)
    int8 = load_model(tmp_path / "model").spec.int8
    assert int8 is not None and int8.files["frame"].calibrated_on == {"street": 48}, "not on the held-out pictures"

    clip = make_clip(tmp_path / "clip.mp4", frames=FRAMES, size=(192, 128))
    run = Run(make_config(model, {"door": clip}))
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].published == FRAMES
    assert {each.label for frame in run.frames("door") for each in frame.objects} <= {"van", "tram"}
