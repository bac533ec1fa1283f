"""``trunkline evaluate crops`` on made pictures, with a model that sees a person wherever it is shown something."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from engines.errors import ConfigError, DataError, TrunklineError
from tests.pipeline.made_runs import write_model
from tools.crops.pictures import LabelledPicture, sheets
from tools.crops.ways import WAYS, tiles_of
from tools.evaluate import app

SIZE = (640, 480)


def run(*arguments: str) -> dict[str, list[dict[str, object]]]:
    result = CliRunner().invoke(app, ["crops", *arguments, "--backend", "onnxruntime", "--json"])
    if isinstance(result.exception, TrunklineError):
        raise result.exception
    assert result.exit_code == 0, result.output
    said = result.stdout
    return json.loads(said[f"\n{said}".index("\n{") :])


@pytest.fixture
def sequence(tmp_path: Path) -> Path:
    folder = tmp_path / "sequence"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    # The model's one box, of its input of 64x48, in the whole picture; and one that nothing finds.
    rows = [(1, 1, 40, 40, 160, 400, 1, 1), (1, 2, 500, 400, 20, 20, 1, 1), (2, 1, 40, 40, 160, 400, 1, 1)]
    (folder / "gt" / "gt.txt").write_text("".join(",".join(map(str, row)) + ",1.0\n" for row in rows))
    for number in (1, 2):
        cv2.imwrite(str(folder / "img1" / f"{number:06}.jpg"), np.zeros((480, 640, 3), np.uint8))
    return folder


def test_each_way_is_counted_against_the_boxes_by_size(sequence: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model").path
    found = run("--model", str(model), "--sequence", str(sequence))["pictures"]
    assert [each["way"] for each in found] == [way.name for way in WAYS]
    assert [each["passes"] for each in found] == [1, 2, 3, 5, 5, 10]
    whole, *others = found
    assert whole["boxes"] == {"small": 1, "medium": 0, "large": 2}
    assert whole["found"] == {"small": 0, "medium": 0, "large": 2}
    assert (whole["right"], whole["wrong"]) == (2, 0)
    for each in others:
        assert each["found"]["large"] == 2 and each["wrong"] > 0, "it sees a person in each crop, too"


def test_a_clip_is_held_against_its_tiles(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 6, (320, 240), 25, lambda index: np.zeros((240, 320, 3), np.uint8))
    model = write_model(tmp_path / "model").path
    found = run("--model", str(model), "--clip", str(clip), "--every", "2")["clips"]
    whole, tiles = found[0], found[-1]
    assert (whole["frames"], whole["passes"], whole["objects"], whole["in_reference"]) == (3, 1, 1, 1)
    assert (tiles["passes"], tiles["of_reference"], tiles["in_reference"]) == (10, 1, 1)
    assert 0.0 < whole["of_reference"] < 1.0


def test_nothing_to_look_at_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--data, --sequence or --clip is missing"):
        run()
    with pytest.raises(DataError, match="has no pictures"):
        run("--model", str(write_model(tmp_path / "model").path), "--sequence", str(tmp_path))


def test_tiles_cover_the_picture_and_overlap() -> None:
    for columns, rows in ((2, 2), (3, 3)):
        seen = np.zeros((480, 640), np.int64)
        for left, top, width, height in tiles_of(SIZE, columns, rows):
            assert left + width <= 640 and top + height <= 480
            seen[top : top + height, left : left + width] += 1
        assert seen.min() == 1 and seen.max() == 4


def test_pictures_of_a_sheet_keep_their_pixels_and_boxes(tmp_path: Path) -> None:
    from engines.data.coco import CocoBox

    def picture(value: int, size: tuple[int, int]) -> LabelledPicture:
        pixels = np.zeros((size[1], size[0], 3), np.uint8)
        pixels[5:15, 10:30] = value
        boxes = [CocoBox(1, 0, 1, (10, 5, 20, 10)), CocoBox(2, 0, 2, (0, 0, 1e6, 1e6), ignore=1)]
        return LabelledPicture(pixels, boxes)

    (sheet,) = sheets([picture(200 + n, (40 + n, 30)) for n in range(5)], 2, 2)
    assert sheet.pixels.shape == (60, 86, 3)
    for number in range(4):
        x0, y0, x1, y1 = map(int, sheet.boxes[2 * number].xyxy)
        assert (sheet.pixels[y0:y1, x0:x1] == 200 + number).all()
        assert sheet.boxes[2 * number + 1].bbox[2:] == (40 + number, 30)
