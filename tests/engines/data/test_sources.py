"""Readers of small files made here, whole and broken."""

import json
import re
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from engines.data.coco import CocoSet
from engines.data.reading import SkippedRows
from engines.data.sources import Coco, FaceSource, Folders, Voc, Wider, labelled_pictures, points_of, read_boxes
from engines.errors import DataError


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))


def xml(*objects: str) -> str:
    return f"<annotation><filename>wrong.png</filename>{''.join(objects)}</annotation>"


def thing(name: str, box: tuple[object, object, object, object] = (1, 2, 10, 20), difficult: int = 0) -> str:
    sides = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def write_voc(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        picture(folder / f"pictures/{name}.png")
        path = folder / f"Annotations/{name}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def read(source: FaceSource, data: Path, skipped: SkippedRows | None = None) -> CocoSet:
    return read_boxes(source, data, "pictures", skipped or SkippedRows())


def named(found: CocoSet) -> list[tuple[str, str]]:
    return [(found.pictures[box.image_id].name, found.categories[box.category_id]) for box in found.boxes]


def test_voc_boxes_hold_both_their_corners(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": xml(thing("dog"), thing("cat", difficult=1)), "b": xml()})
    found = read(Voc(annotations="Annotations"), tmp_path)
    assert named(found) == [("a.png", "dog"), ("a.png", "cat")]
    assert [box.bbox for box in found.boxes] == [(0, 1, 10, 19)] * 2, "counted from 1, the last pixel included"
    assert [box.ignored for box in found.boxes] == [False, True], "difficult is ignored"
    assert found.categories == {0: "cat", 1: "dog"}
    assert {path.name for path in found.pictures.values()} == {"a.png", "b.png"}, "a picture may show nothing"


def test_an_image_set_says_which_files_are_read(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": xml(thing("dog")), "b": xml(thing("cat"))})
    (tmp_path / "train.txt").write_text("b  1\n")
    assert named(read(Voc(annotations="Annotations", image_set="train.txt"), tmp_path)) == [("b.png", "cat")]


def test_faces_are_the_classes_that_the_source_names(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": xml(thing("dog"), thing("head"), thing("Face"))})
    source = Voc(annotations="Annotations", rename={"head": "face", "Face": "face"}, classes=("face",))
    found = read(source, tmp_path)
    assert named(found) == [("a.png", "face")] * 2 and found.categories == {0: "face"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<annotation>", r"y\.xml: no element found"),
        (xml(thing("")), r"y\.xml: an object has no name"),
        (xml(thing("dog", (5, 1, 2, 9))), r"y\.xml: the box of a dog has no area"),
        (xml(thing("dog", (5, "wide", 9, 9))), r"y\.xml: bndbox/ymin must be a number, got 'wide'"),
        (xml("<object><name>dog</name></object>"), r"y\.xml: bndbox/xmin must be a number, got None"),
    ],
)
def test_a_broken_voc_file_is_listed_by_its_name(tmp_path: Path, text: str, said: str) -> None:
    write_voc(tmp_path, {"x": xml(thing("dog")), "y": text})
    skipped = SkippedRows(strict=False)
    assert named(read(Voc(annotations="Annotations"), tmp_path, skipped)) == [("x.png", "dog")]
    (reason,) = skipped.rows
    assert re.search(said, reason) and "\n" not in reason
    with pytest.raises(DataError, match="1 of 2 rows cannot be read"):
        read(Voc(annotations="Annotations"), tmp_path)


def test_a_voc_file_without_a_picture_is_broken(tmp_path: Path) -> None:
    write_voc(tmp_path, {"x": xml(thing("dog"))})
    (tmp_path / "Annotations/z.xml").write_text(xml(thing("cat")))
    with pytest.raises(DataError, match=r"z\.xml: there is no picture of that name"):
        read(Voc(annotations="Annotations"), tmp_path)


def test_a_folder_without_voc_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Annotations: lists no XML files"):
        read(Voc(annotations="Annotations"), tmp_path)


WIDER = """0--Parade/a.jpg
2
449 330 122 149 0 0 0 0 0 0
10 20 30 40 0 0 0 1 0 0
0--Parade/none.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/b.jpg
1
1 2 3 4 0 0 0 0 0 0
"""


def wider(folder: Path, text: str, skipped: SkippedRows | None = None) -> CocoSet:
    (folder / "faces.txt").write_text(text)
    return read(Wider(file="faces.txt"), folder, skipped)


@pytest.mark.parametrize("zeros", ["0 0 0 0 0 0 0 0 0 0\n", ""], ids=["with its row of zeros", "without"])
def test_wider_faces_belong_to_the_picture_above_them(tmp_path: Path, zeros: str) -> None:
    found = wider(tmp_path, WIDER.replace("0 0 0 0 0 0 0 0 0 0\n", zeros))
    assert [path.relative_to(tmp_path / "pictures").as_posix() for path in found.pictures.values()] == [
        "0--Parade/a.jpg",
        "0--Parade/none.jpg",
        "1--Handshaking/b.jpg",
    ]
    assert [box.bbox for box in found.boxes] == [(449, 330, 122, 149), (10, 20, 30, 40), (1, 2, 3, 4)]
    assert [box.ignored for box in found.boxes] == [False, True, False], "an invalid face is ignored"
    assert [found.pictures[box.image_id].name for box in found.boxes] == ["a.jpg", "a.jpg", "b.jpg"]


@pytest.mark.parametrize(
    ("old", "new", "pictures", "boxes", "said"),
    [
        ("10 20 30 40", "10 20 0 40", 3, 2, "row 4 is a face without area"),
        ("10 20 30 40 0", "ten", 3, 2, "row 4 is not a face: 'ten"),
        ("\n2\n", "\n3\n", 2, 1, "the picture in row 1 is followed by 2 faces, and their number says '3'"),
        ("\n2\n", "\nmany\n", 2, 1, "row 1 is followed by 2 faces, and their number says 'many'"),
    ],
    ids=["no width", "no numbers", "a face too few", "no count"],
)
def test_a_broken_wider_row_costs_only_itself(
    tmp_path: Path, old: str, new: str, pictures: int, boxes: int, said: str
) -> None:
    skipped = SkippedRows(strict=False)
    found = wider(tmp_path, WIDER.replace(old, new, 1), skipped)
    assert (len(found.pictures), len(found.boxes)) == (pictures, boxes)
    (reason,) = skipped.rows
    assert said in reason and "faces.txt" in reason


@pytest.mark.parametrize("text", ["", "nothing\nof the kind\n"])
def test_a_wider_file_without_pictures_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match=r"faces\.txt: names no pictures"):
        wider(tmp_path, text)


BOX = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4]}


def coco(folder: Path, *boxes: dict[str, object], **changes: object) -> CocoSet:
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": list(boxes),
        "categories": [{"id": 9, "name": "tabby"}, {"id": 7, "name": "dog"}, {"id": 8, "name": "cat"}],
    }
    (folder / "coco.json").write_text(json.dumps(content))
    return read(Coco(file="coco.json", **changes), folder)  # type: ignore[arg-type]


def test_coco_classes_are_in_the_order_of_their_ids(tmp_path: Path) -> None:
    found = coco(tmp_path, BOX)
    assert list(found.categories.values()) == ["dog", "cat", "tabby"]
    assert found.pictures == {1: tmp_path / "pictures/a.png"}


def test_classes_that_are_renamed_alike_are_one_and_others_can_be_left_out(tmp_path: Path) -> None:
    rows = [{**BOX, "id": n, "category_id": n} for n in (7, 8, 9)]
    found = coco(tmp_path, *rows, rename={"tabby": "cat"}, classes=("cat",))
    assert [box.id for box in found.boxes] == [8, 9] and found.categories == {0: "cat"}
    assert list(coco(tmp_path, *rows, rename={"tabby": "cat"}).categories.values()) == ["dog", "cat"]


def test_a_class_to_keep_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"coco\.json: has no class 'cow' to keep, only dog, cat, tabby"):
        coco(tmp_path, BOX, classes=("cow",))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"bbox": [1, 2, 0, 4]}, "annotation 1 has no area"), ({"image_id": 5}, "is of picture 5, which is not listed")],
)
def test_boxes_that_make_no_sense_are_broken_rows(tmp_path: Path, change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said):
        coco(tmp_path, {**BOX, **change})


def test_points_of_another_file_go_to_their_annotations(tmp_path: Path) -> None:
    five = [[n, n + 1] for n in range(5)]
    (tmp_path / "points.json").write_text(json.dumps({"landmarks": [{"annotation_id": 2, "points5": five}]}))
    found = coco(tmp_path, BOX, {**BOX, "id": 2}, points="points.json")
    assert [box.points5 for box in found.boxes] == [None, tuple((n, n + 1) for n in range(5))]


@pytest.mark.parametrize("visible", [[2, 2, 2, 2, 0], [2] * 4, [2] * 17], ids=["one hidden", "four", "a whole body"])
def test_only_five_labelled_keypoints_are_landmarks(tmp_path: Path, visible: list[int]) -> None:
    found = coco(tmp_path, {**BOX, "keypoints": [v for n in visible for v in (1, 2, n)]})
    assert found.boxes[0].points5 is None


def test_folders_are_labels_and_some_hold_nobody(tmp_path: Path) -> None:
    for name in ("a/dog/1.png", "a/_many/2.png", "b/spaniel/3.jpg", "b/spaniel/notes.txt"):
        picture(tmp_path / name) if not name.endswith("txt") else (tmp_path / name).write_text("x")
    source = Folders(folders=("a", "b"), rename={"spaniel": "dog"})
    found = [(label, file.name) for label, file in labelled_pictures(source, tmp_path, without="_")]
    assert found == [("dog", "1.png"), ("dog", "3.jpg")]
    assert len(list(labelled_pictures(source, tmp_path))) == 3


def test_points_are_those_of_the_files_in_the_folders(tmp_path: Path) -> None:
    five = [[1.0, 2.0]] * 5
    (tmp_path / "points.json").write_text(json.dumps([{"file": "dog/1.png", "points5": five}]))
    found = points_of(Folders(folders=("a",), points="points.json"), tmp_path)
    assert list(found) == [tmp_path / "a/dog/1.png"]
    assert points_of(Folders(folders=("a",)), tmp_path) == {}


@pytest.mark.parametrize("source", [Coco(file="a"), Voc(annotations="a"), Wider(file="a")])
def test_sources_survive_json(source: FaceSource) -> None:
    text = msgspec.json.encode(source)
    assert msgspec.json.decode(text, type=Coco | Voc | Wider) == source
