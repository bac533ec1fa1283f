import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from tests.engines.training.made_data import write_training_data
from tools.main import app

CONFIG = """
name = "tiny"
steps = 4

[[datasets]]
name = "things"
images = "detection/images/train"
objects = { format = "coco", file = "detection/annotations/instances_train.json" }
faces = { format = "coco", file = "detection/annotations/faces_silver_train.json" }
size = 64
mosaic = 0.5
faces_from = "portraits"
augmentation = { paste_faces = 0.5 }

[[datasets]]
name = "portraits"
images = "face_landmarks/images/train"
faces = { format = "coco", file = "face_landmarks/annotations/landmarks_train.json", only_near = true }
size = 64

[[datasets]]
name = "people"
identity = { format = "folders", folders = ["face_recognition/train"] }
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_training_data(tmp_path / "data")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(CONFIG)
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["data", *map(str, arguments)])


def sizes(path: Path) -> tuple[int, int]:
    pixels = cv2.imread(str(path))
    assert pixels is not None and len(np.unique(pixels)) > 10, "something is drawn there"
    return pixels.shape[1], pixels.shape[0]


def test_check_counts_and_draws_a_sheet_of_each_set(data: Path, config: Path, tmp_path: Path) -> None:
    done = run("check", config, "--data", data, "--out", tmp_path / "sheets", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    things, portraits, people = report["datasets"]
    assert things["objects"]["by_class"] == {"cat": 5, "person": 4}, "the ignored one counts apart"
    assert things["objects"]["ignored"] == 1
    assert sum(things["objects"]["by_size"].values()) == 9
    assert portraits["faces"]["with_landmarks"] == 5 and portraits["objects"] is None
    assert people["by_label"] == {"Person_0": 2, "Person_1": 2, "Person_2": 2} and people["groups"] == 3
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == [
        "people.png",
        "portraits.png",
        "things.png",
    ]
    for name in ("people", "portraits", "things"):
        assert sizes(tmp_path / f"sheets/{name}.png")[0] == 8 * 224


def test_check_prints_a_table_and_the_broken_rows(data: Path, config: Path) -> None:
    done = run("check", config, "--data", data)
    assert done.exit_code == 0
    assert "things" in done.output and "3 people with 2 to" in done.output


def test_check_warns_of_pictures_that_are_trained_on_and_held_out(data: Path, config: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "val"
    held_out.mkdir()
    shutil.copy(data / "detection/images/train/2.png", held_out / "copy.png")
    done = run("check", config, "--data", data, "--against", held_out)
    assert done.exit_code == 0
    assert "warning: trained on and held out" in done.output and "copy.png" in done.output


def test_check_ends_with_an_error_where_training_would_refuse(data: Path, config: Path) -> None:
    (data / "detection/images/train/3.png").write_bytes(b"no picture")
    done = run("check", config, "--data", data)
    assert done.exit_code == 1
    assert "refused: training set things, pictures: 1 of 5 rows cannot be read" in done.output
    assert "broken: things: picture" in done.output and "3.png" in done.output


def test_check_names_a_folder_of_held_out_pictures_that_has_none(data: Path, config: Path, tmp_path: Path) -> None:
    done = run("check", config, "--data", data, "--against", tmp_path / "nowhere")
    assert done.exit_code == 2 and "nowhere: holds no pictures" in done.output


def test_preview_shows_a_row_of_each_set(data: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.png"
    done = run("preview", config, "--data", data, "--out", out)
    assert done.exit_code == 0, done.output
    assert sizes(out) == (8 * 224, 3 * (224 + 22))
    first = out.read_bytes()
    run("preview", config, "--data", data, "--out", out)
    assert out.read_bytes() == first, "a seed decides everything"
    run("preview", config, "--data", data, "--out", out, "--seed", 1)
    assert out.read_bytes() != first
    assert not list(tmp_path.glob("*.part"))


def test_preview_shows_one_set_and_one_augmentation(data: Path, config: Path, tmp_path: Path) -> None:
    out = tmp_path / "preview.png"
    assert run("preview", config, "--data", data, "--out", out, "--dataset", "people", "--rows", 2).exit_code == 0
    assert sizes(out)[1] == 2 * (224 + 22)
    assert run("preview", config, "--data", data, "--out", out, "--augmentation", "paste_faces").exit_code == 0
    assert sizes(out)[1] == 224 + 22
    assert run("preview", config, "--data", data, "--out", out, "--augmentation", "each").exit_code == 0
    assert sizes(out)[1] == 18 * (224 + 22)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("--dataset", "poses"), "--dataset poses: must be one of things, portraits, people"),
        (("--augmentation", "warp"), "--augmentation warp: must be each or one of none, mosaic, scale"),
    ],
)
def test_preview_names_what_it_does_not_know(data: Path, config: Path, wrong: tuple[str, str], said: str) -> None:
    done = run("preview", config, "--data", data, "--out", "x.png", *wrong)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
