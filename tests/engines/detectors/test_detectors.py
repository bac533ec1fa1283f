import json
from pathlib import Path

import numpy as np
import pytest

from engines.arrays import Pixels
from engines.data.names import COCO_NAMES
from engines.detectors import Found, LayoutName, label_folder, open_detector
from engines.detectors.layout import LAYOUTS, cells, find_layout, names_in
from engines.errors import DataError, ModelError
from tests.engines.detectors.made import (
    CELLS,
    DOG,
    INPUT_OF,
    NAMES,
    PICTURE,
    SIDE,
    detector,
    middle,
    outputs_of,
    rows,
    yolox,
)
from tests.engines.evaluation.colours import paint


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_is_found_by_its_shapes_and_its_box_is_where_it_should_be(tmp_path: Path, name: LayoutName) -> None:
    file = detector(tmp_path / "d.onnx", outputs_of(name), inputs=2 if name == "rtdetr" else 1)
    opened = open_detector(file, names=NAMES)
    assert opened.layout.name == name
    found = opened.detect(PICTURE)
    assert [opened.names[label] for label in found.labels] == ["dog"]
    assert found.scores.tolist() == pytest.approx([0.72], abs=1e-4)
    assert found.boxes[0].tolist() == pytest.approx(DOG, abs=0.1)


def test_yolox_files_that_leave_decoding_to_us_are_decoded(tmp_path: Path) -> None:
    opened = open_detector(detector(tmp_path / "d.onnx", yolox(INPUT_OF["corner"], raw=True)), names=NAMES)
    assert opened.detect(PICTURE).boxes[0].tolist() == pytest.approx(DOG, abs=0.1)


def test_doubles_are_suppressed_within_a_class(tmp_path: Path) -> None:
    values, box = rows(7, CELLS), middle(INPUT_OF["centre"])
    values[0, :, 5], values[0, :, 6] = [*box, 0.1, 0.7, 0.1], [*box, 0.1, 0.6, 0.1]
    values[0, :, 7] = [*box, 0.9, 0.2, 0.1]
    opened = open_detector(detector(tmp_path / "d.onnx", {"output0": values}), names=NAMES)
    found = opened.detect(PICTURE)
    assert [NAMES[label] for label in found.labels] == ["person", "dog"]
    assert found.scores.tolist() == pytest.approx([0.9, 0.7])
    assert len(opened.detect(PICTURE, iou=1.0).scores) == 3
    assert len(opened.detect(PICTURE, limit=1).scores) == 1


def test_boxes_end_at_the_border_of_the_picture(tmp_path: Path) -> None:
    values = rows(7, CELLS)
    values[0, :, 5] = [10, 60, 60, 40, 0.1, 0.7, 0.1]
    found = open_detector(detector(tmp_path / "d.onnx", {"output0": values}), names=NAMES).detect(PICTURE)
    assert found.boxes[0, 0] == 0 and (found.boxes >= 0).all()


def test_names_come_from_the_file_else_are_cocos(tmp_path: Path) -> None:
    metadata = {"names": "{0: 'ape', 1: 'nut', 2: 'mary'}"}
    own = open_detector(detector(tmp_path / "a.onnx", outputs_of("yolov8"), metadata=metadata))
    assert own.names == ("ape", "nut", "mary")
    coco = open_detector(detector(tmp_path / "b.onnx", {"output0": rows(84, CELLS)}))
    assert coco.names == COCO_NAMES and coco.layout.name == "yolov8"
    with pytest.raises(ModelError, match="tells 3 classes apart; say what they are called with --names"):
        open_detector(detector(tmp_path / "c.onnx", outputs_of("yolov8")))


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2", "{0: 'a', 2: 'b'}", "__import__('os')", "7", "{'a': 0}", "(" * 5000],
    ids=["empty", "not closed", "a number missing", "a call", "no list", "numbers as values", "deep"],
)
def test_metadata_that_are_no_list_of_names_give_none(text: str) -> None:
    assert names_in({"names": text}) == ()


def test_transformers_of_six_columns_are_told_by_their_head(tmp_path: Path) -> None:
    values = rows(30, 6)
    values[0, 3] = [*(np.array(middle(INPUT_OF["stretch"])) / SIDE), 0.72, 1]
    file = detector(tmp_path / "d.onnx", {"output0": values}, metadata={"head": "RTDETRDecoder"})
    assert open_detector(file, names=NAMES).detect(PICTURE).boxes[0].tolist() == pytest.approx(DOG, abs=0.1)


@pytest.mark.parametrize(
    ("shape", "classes"),
    [((1, 5000, 3), None), ((1, 1000), None), ((1, 16, 8, 8), None), ((1, cells((128, 128)) + 1000, 9), 4)],
    ids=["no room for a box", "no rows", "maps", "another number of cells"],
)
def test_other_outputs_are_refused_with_their_shapes(shape: tuple[int, ...], classes: int | None) -> None:
    with pytest.raises(ModelError, match=r"outputs \(out \[.* are of no layout that is known; say which"):
        find_layout(["images"], {"out": shape}, (128, 128), classes)


def test_what_is_no_detector_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    for name in ("bad", "none"):
        with pytest.raises(ModelError, match=rf"detector \S+{name}.onnx: cannot be opened"):
            open_detector(tmp_path / f"{name}.onnx")


@pytest.mark.parametrize(
    ("columns", "classes", "name"),
    [(85, None, "yolox"), (112, None, "nanodet"), (40, None, "yolox"), (40, 35, "yolox"), (40, 8, "nanodet")],
)
def test_how_many_classes_there_are_tells_layouts_apart(columns: int, classes: int | None, name: LayoutName) -> None:
    """Without names there are COCO's 80 if that fits."""
    assert find_layout(["images"], {"out": (1, CELLS, columns)}, (SIDE, SIDE), classes) == name


def dog_everywhere(picture: Pixels) -> Found:
    return Found(np.array([[1, 2, 11, 8]], np.float32), np.array([0.72], np.float32), np.array([1]))


def label(folder: Path, out: Path, description: str = "made") -> list[str]:
    unread: list[str] = []
    label_folder(dog_everywhere, NAMES, folder, out, description, unread=unread.append)
    return unread


def test_a_folder_becomes_coco_json_with_scores(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out.json"
    for name in ("b.png", "sub/a.png"):
        paint(folder / name, (32, 24), [])
    (folder / "broken.jpg").write_bytes(b"no picture")
    (folder / "notes.txt").write_text("no picture either")
    unread = label(folder, out)
    content = json.loads(out.read_text())
    told = [(row["file_name"], row["width"], row["height"]) for row in content["images"]]
    assert told == [("b.png", 32, 24), ("sub/a.png", 32, 24)]
    box = content["annotations"][0]
    assert (box["bbox"], box["score"], box["category_id"], box["image_id"]) == ([1.0, 2.0, 10.0, 6.0], 0.72, 2, 1)
    assert [row["name"] for row in content["categories"]] == list(NAMES)
    assert len(unread) == 1 and "broken.jpg" in unread[0]


def test_labelling_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out.json"
    for number in range(5):
        paint(folder / f"{number}.png", (32, 24), [])
    monkeypatch.setattr("engines.detectors.labelling.SAVED_EVERY", 2)
    seen = 0

    def interrupted(picture: Pixels) -> Found:
        nonlocal seen
        seen += 1
        if seen == 4:
            raise KeyboardInterrupt
        return dog_everywhere(picture)

    with pytest.raises(KeyboardInterrupt):
        label_folder(interrupted, NAMES, folder, out, "made")
    assert len(json.loads(out.read_text())["images"]) == 2
    label_folder(interrupted, NAMES, folder, out, "made")
    assert seen == 7, "two were done"
    content = json.loads(out.read_text())
    assert [row["id"] for row in content["annotations"]] == [1, 2, 3, 4, 5]
    assert sorted(row["file_name"] for row in content["images"]) == [f"{number}.png" for number in range(5)]


def test_the_labels_of_another_detector_are_not_gone_on_with(tmp_path: Path) -> None:
    folder, out = tmp_path / "pictures", tmp_path / "out.json"
    paint(folder / "1.png", (32, 24), [])
    label(folder, out)
    with pytest.raises(DataError, match="was made by another detector or with another score; name another file"):
        label(folder, out, "another")
    with pytest.raises(DataError, match="has no pictures"):
        label(tmp_path / "nothing", tmp_path / "other.json")
