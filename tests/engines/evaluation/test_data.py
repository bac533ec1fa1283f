import json
from pathlib import Path

import pytest

from engines.data.coco import read_coco
from engines.data.folders import pictures_below, read_points
from engines.data.pairs import identity_of, read_pairs
from engines.data.reading import SkippedRows, spread
from engines.errors import DataError


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def coco_with(annotations: list[object]) -> dict[str, object]:
    images = [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    return {"images": images, "annotations": annotations, "categories": [{"id": 7, "name": "cat"}]}


GOOD_BOX = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "some": "more"}


def test_one_broken_row_in_a_hundred_is_skipped_and_listed(tmp_path: Path) -> None:
    write(tmp_path / "d/annotations/x.json", coco_with([GOOD_BOX] * 99 + [{"id": 100, "bbox": "wide"}]))
    skipped = SkippedRows()
    truth = read_coco(tmp_path, "d", "x.json", skipped)
    assert len(truth.boxes) == 99
    assert truth.pictures[1] == tmp_path / "d/images/val/a.png"
    (reason,) = skipped.rows
    assert "x.json: CocoBox row 99" in reason


def test_two_broken_rows_in_a_hundred_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "d/annotations/x.json", coco_with([GOOD_BOX] * 98 + [{"id": 99}, {"id": 100}]))
    with pytest.raises(DataError, match=r"2 of 100 rows cannot be read, more than 1%"):
        read_coco(tmp_path, "d", "x.json", SkippedRows())


@pytest.mark.parametrize("content", ["{", "[]", '{"images": []}'])
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, content: str) -> None:
    write(tmp_path / "d/annotations/x.json", content)
    with pytest.raises(DataError, match=r"x\.json: is not COCO JSON"):
        read_coco(tmp_path, "d", "x.json", SkippedRows())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.json: cannot be read: No such file"):
        read_coco(tmp_path, "d", "x.json", SkippedRows())


def test_a_category_that_is_not_listed_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d/annotations/x.json", coco_with([{**GOOD_BOX, "category_id": 8}]))
    with pytest.raises(DataError, match="annotation 1 names category 8"):
        read_coco(tmp_path, "d", "x.json", SkippedRows())


def test_a_limit_takes_boxes_with_their_pictures(tmp_path: Path) -> None:
    write(tmp_path / "d/annotations/x.json", coco_with([GOOD_BOX, {**GOOD_BOX, "image_id": 2}]))
    truth = read_coco(tmp_path, "d", "x.json", SkippedRows(), limit=1)
    assert list(truth.pictures) == [1]
    assert [box.image_id for box in truth.boxes] == [1]


def test_pairs_name_pictures_below_their_folder(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.txt", "A/1.png\tA/2.png\t1\nA/1.png\t_singletons/B_C__0001.png\t0\n\n")
    same, other = read_pairs(path, tmp_path / "val", SkippedRows())
    assert same.first == tmp_path / "val/A/1.png"
    assert (same.genuine, other.genuine) == (True, False)
    assert other.identities == ("A", "B_C")


@pytest.mark.parametrize("line", ["A/1.png A/2.png 1", "A/1.png\tA/2.png", "A/1.png\tA/2.png\tyes"])
def test_a_broken_pair_among_few_is_refused(tmp_path: Path, line: str) -> None:
    path = write(tmp_path / "pairs.txt", f"A/1.png\tA/2.png\t1\n{line}\n")
    with pytest.raises(DataError, match="line 2 is not two paths and 0 or 1"):
        read_pairs(path, tmp_path, SkippedRows())


def test_pairs_of_one_kind_alone_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.txt", "A/1.png\tA/2.png\t1\n")
    with pytest.raises(DataError, match=r"of one person \(1\) and of two people \(0\)"):
        read_pairs(path, tmp_path, SkippedRows())


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a/readme.txt", "hello")
    with pytest.raises(DataError, match="has no pictures"):
        pictures_below(tmp_path)


def test_face_points_come_in_fives(tmp_path: Path) -> None:
    path = write(tmp_path / "points.json", [{"file": "a.png", "points5": [[1, 2]] * 4}])
    with pytest.raises(DataError, match="length >= 5"):
        read_points(path, tmp_path)


def test_a_limit_reaches_from_the_first_to_the_last_row() -> None:
    assert spread(range(100), 3) == [0, 49, 99]
    assert spread(range(3), 5) == [0, 1, 2]
    assert spread(range(3), None) == [0, 1, 2]


def test_an_identity_is_its_folder_or_its_name() -> None:
    assert identity_of(Path("val/Ada_L/lfw_0001.png")) == "Ada_L"
    assert identity_of(Path("val/_singletons/Ada_L__0001.png")) == "Ada_L"
