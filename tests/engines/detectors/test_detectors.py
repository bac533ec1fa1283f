import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.arrays import Float, Pixels
from engines.data.names import COCO_NAMES
from engines.detectors import Found, LayoutName, label_folder, open_detector
from engines.detectors.layout import LAYOUTS, cells, find_layout, names_in
from engines.errors import DataError, ModelError
from tests.engines.evaluation.colours import paint

SIDE = 128  # of the made detectors' input, pixels
CELLS = 16 * 16 + 8 * 8 + 4 * 4
NAMES = ("person", "dog", "kite")
PICTURE: Pixels = np.zeros((100, 200, 3), np.uint8)  # twice as wide as high
DOG = [50.0, 20.0, 150.0, 80.0]  # in it, xyxy
INPUT_OF = {  # the same box in the input, by how the picture is fitted
    "corner": [32.0, 12.8, 96.0, 51.2],
    "centre": [32.0, 44.8, 96.0, 83.2],
    "stretch": [32.0, 25.6, 96.0, 102.4],
}
PLACEMENTS = {"yolox": "corner", "yolov5": "centre", "yolov8": "centre", "end2end": "centre"}


def middle(box: list[float]) -> list[float]:
    """Corners -> centre and size."""
    return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]


def detector(path: Path, outputs: dict[str, Float], inputs: int = 1, metadata: dict[str, str] | None = None) -> Path:
    """A file that gives these outputs whatever it sees."""
    taken = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
    if inputs > 1:
        taken.append(helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, [1, 2]))
    nodes, given, constants = [], [], []
    for name, value in outputs.items():
        constants.append(numpy_helper.from_array(value, f"{name}_value"))
        nodes.append(helper.make_node("Identity", [f"{name}_value"], [name]))
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        given.append(helper.make_tensor_value_info(name, kind, list(value.shape)))
    graph = helper.make_graph(nodes, "made", taken, given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
    onnx.save(model, path)
    return path


def rows(count: int, columns: int) -> Float:
    return np.zeros((1, count, columns), np.float32)


def yolox(box: list[float], *, raw: bool = False) -> dict[str, Float]:
    values, at = rows(CELLS, 8), 16 * 16 + 8 * 3 + 4  # the cell at (4, 3), stride 16
    x, y, w, h = middle(box)
    if not raw:
        values[0, :, 0] = np.linspace(0, SIDE, CELLS)
    values[0, at, :4] = [x / 16 - 4, y / 16 - 3, math.log(w / 16), math.log(h / 16)] if raw else [x, y, w, h]
    values[0, at, 4:] = [0.9, 0.1, 0.8, 0.1]
    return {"output": values}


def nanodet(box: list[float]) -> dict[str, Float]:
    values, at = rows(CELLS, 3 + 32), 16 * 16 + 8 * 3 + 4  # the middle of its cell is at (72, 56)
    values[0, at, :3] = [0.1, 0.72, 0.1]
    for side, distance in enumerate(np.array([72 - box[0], 56 - box[1], box[2] - 72, box[3] - 56]) / 16):
        low = int(distance)  # all weight on the two whole numbers around it
        spread = np.full(8, -30.0)
        spread[low], spread[low + 1] = (math.log(max(share, 1e-9)) for share in (low + 1 - distance, distance - low))
        values[0, at, 3 + 8 * side : 11 + 8 * side] = spread
    return {"output": values}


def outputs_of(name: LayoutName) -> dict[str, Float]:
    """A dog of score 0.72."""
    box = INPUT_OF[PLACEMENTS.get(name, "stretch")]
    match name:
        case "yolox":
            return yolox(box)
        case "yolov5":
            values = rows(3 * CELLS, 8)
            values[0, 77] = [*middle(box), 0.9, 0.1, 0.8, 0.1]
        case "yolov8":
            values = rows(7, CELLS)
            values[0, :, 77] = [*middle(box), 0.1, 0.72, 0.1]
        case "end2end":
            values = rows(30, 6)
            values[0, 3] = [*box, 0.72, 1]
        case "detr":
            logits, boxes = rows(30, 3) - 9, rows(30, 4)
            logits[0, 3, 1], boxes[0, 3] = math.log(0.72 / 0.28), np.array(middle(box)) / SIDE
            return {"logits": logits, "pred_boxes": boxes}
        case "rtdetr":
            labels, scores, boxes = np.zeros((1, 30), np.int64), np.zeros((1, 30), np.float32), rows(30, 4)
            labels[0, 3], scores[0, 3], boxes[0, 3] = 1, 0.72, DOG
            return {"labels": labels, "boxes": boxes, "scores": scores}
        case "nanodet":
            return nanodet(box)
    return {"output": values}


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
