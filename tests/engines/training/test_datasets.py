import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from engines.alignment import TEMPLATE
from engines.errors import DataError
from engines.training import datasets
from engines.training.datasets import PictureSet
from engines.training.loop import load_sets
from tests.engines.evaluation.colours import GREY, SCENES, face_colour, paint, write_coco
from tests.engines.training.made_data import (
    FACE,
    IDENTITIES,
    KINDS,
    OTHER_FACE,
    PICTURES,
    dataset,
    landmarks,
)

ANNOTATIONS = {
    "detection": ["detection/annotations/instances_train.json", "detection/annotations/faces_silver_train.json"],
    "face_detection": [
        "face_detection/annotations/instances_train.json",
        "face_detection/annotations/landmarks5_silver_train.json",
    ],
    "face_landmarks": ["face_landmarks/annotations/landmarks_train.json"],
    "identities": ["face_recognition/ytf_landmarks5_train.json"],
}


def load(data: Path, kind: str) -> PictureSet:
    (found,) = load_sets([dataset(kind)], data)
    return found


def corners(box: tuple[int, int, int, int], scale: float) -> list[float]:
    x, y, width, height = box
    return [scale * x, scale * y, scale * (x + width), scale * (y + height)]


def test_detection_labels_objects_and_faces(data: Path) -> None:
    found = load(data, "detection")
    assert found.pictures.shape == (PICTURES, 384, 384, 3) and found.pictures.dtype == torch.uint8
    assert found.extents.tolist() == [[384, 256]] * PICTURES, "96x64 pictures fill the canvas' width"
    assert found.objects is not None and found.faces is not None and found.labels is None
    assert found.objects.boxes[1].tolist() == [corners((6, 34, 30, 24), 4), corners((52, 6, 28, 50), 4)]
    assert found.objects.classes.tolist() == [[0, 1]] * PICTURES
    assert found.objects.ignore.tolist() == [[False, True]] + [[False, False]] * (PICTURES - 1)
    assert found.objects.landmarks is None
    assert found.faces.ignore[:, 0].tolist() == [True] + [False] * (PICTURES - 1)
    assert found.faces.has_landmarks is not None and found.faces.has_landmarks.all()
    assert datasets.object_labels(data) == ("cat", "person")


def test_boxes_lie_where_the_pixels_are(data: Path) -> None:
    found = load(data, "detection")
    assert found.objects is not None
    for picture, boxes in zip(found.pictures, found.objects.boxes, strict=True):
        left, top, right, bottom = boxes[0].int().tolist()
        cat = (picture[..., 1] > 200) & (picture[..., 0] < 80)
        assert cat[top + 4 : bottom - 4, left + 4 : right - 4].all()
        assert not cat[:, right + 4 :].any() and not cat[: top - 4].any()


def test_objects_follow_their_category_ids_whatever_the_order_in_the_file(tmp_path: Path) -> None:
    paint(tmp_path / "detection/images/train/1.png", (32, 32), [])
    box = {"image_id": 1, "category_id": 9, "bbox": [1, 2, 3, 4]}
    write_coco(tmp_path / "detection", "instances_train.json", [], ["1.png"], [box])
    write_coco(tmp_path / "detection", "faces_silver_train.json", ["face"], ["1.png"], [])
    file = tmp_path / "detection/annotations/instances_train.json"
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 9, "name": "tram"}, {"id": 3, "name": "bike"}]
    file.write_text(json.dumps(content))
    found = load(tmp_path, "detection")
    assert datasets.object_labels(tmp_path) == ("bike", "tram")
    assert found.objects is not None and found.objects.classes.tolist() == [[1]]
    assert found.faces is not None and found.faces.classes.tolist() == [[-1]], "a picture without faces has padding"


def test_faces_have_points_only_where_the_machine_found_them(data: Path) -> None:
    found = load(data, "face_detection")
    assert found.objects is None and found.labels is None, "objects are not labelled here, so there are none"
    assert found.faces is not None and found.faces.landmarks is not None and found.faces.has_landmarks is not None
    scale = 416 / 96
    assert found.faces.boxes[0].numpy() == pytest.approx(np.array([corners(b, scale) for b in (FACE, OTHER_FACE)]))
    assert found.faces.has_landmarks.tolist() == [[True, False]] * PICTURES
    np.testing.assert_allclose(found.faces.landmarks[2, 0].numpy(), landmarks(FACE) * scale, rtol=1e-5)
    assert not found.faces.only_near


def test_other_people_beside_the_one_face_are_not_background(data: Path) -> None:
    found = load(data, "face_landmarks")
    assert found.faces is not None and found.faces.only_near
    assert found.faces.classes.tolist() == [[0]] * PICTURES
    assert found.faces.has_landmarks is not None and found.faces.has_landmarks.all()


def test_scenes_of_both_sources_share_their_names(data: Path) -> None:
    found = load(data, "scenes")
    assert datasets.scene_labels(data) == SCENES
    assert found.labels is not None and found.objects is None and found.faces is None
    assert found.classes == len(SCENES)
    assert torch.bincount(found.labels).tolist() == [3, 3, 6], "dog comes from both"
    for picture, label in zip(found.pictures, found.labels.tolist(), strict=True):
        assert picture[20, 20].tolist() == [GREY[SCENES[label]]] * 3


def test_identities_are_folders_and_singletons_are_nobody(data: Path) -> None:
    found = load(data, "identities")
    assert found.pictures.shape == (2 * len(IDENTITIES), 112, 112, 3)
    assert found.labels is not None and found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.classes == len(IDENTITIES)
    for picture, label in zip(found.pictures, found.labels.tolist(), strict=True):
        assert picture[56, 56].tolist() == pytest.approx(face_colour(IDENTITIES[label]), abs=1)


def test_a_crop_with_points_is_aligned_and_one_without_is_resized(tmp_path: Path) -> None:
    """The picture is a face twice too large to be looked at as it is, with a dot at its left eye."""
    eye = TEMPLATE[0] * 2
    dot = (int(eye[0]) - 4, int(eye[1]) - 4, 9, 9)
    for kind in ("lfw", "ytf"):
        paint(tmp_path / f"face_recognition/train/Ada/{kind}_1.png", (300, 300), [(dot, (255, 0, 0))])
    known = [{"file": "Ada/ytf_1.png", "points5": (TEMPLATE * 2).tolist()}]
    (tmp_path / "face_recognition/ytf_landmarks5_train.json").write_text(json.dumps(known))
    resized, aligned = load(tmp_path, "identities").pictures.int()
    x, y = TEMPLATE[0].round().astype(int).tolist()
    assert aligned[y, x, 0] > 220 and aligned[y, x, 1] < 60
    x, y = (eye * 112 / 300).round().astype(int).tolist()
    assert resized[y, x, 0] > 220 and resized[y, x, 1] < 60


def broken_detection(folder: Path, pictures: int, broken: int) -> Path:
    names = [f"{number}.png" for number in range(1, pictures + 1)]
    for name in names:
        paint(folder / f"detection/images/train/{name}", (16, 16), [])
    for name in names[1 : 1 + broken]:
        (folder / f"detection/images/train/{name}").write_bytes(b"not a picture")
    boxes = [{"image_id": n, "category_id": 1, "bbox": [n % 8, 2, 4, 4]} for n in range(1, pictures + 1)]
    write_coco(folder / "detection", "instances_train.json", ["cat"], names, boxes)
    write_coco(folder / "detection", "faces_silver_train.json", ["face"], names, [])
    return folder


def test_a_broken_picture_in_a_hundred_is_skipped_with_its_labels_and_listed(tmp_path: Path) -> None:
    found = datasets.load_detection(broken_detection(tmp_path, 100, 1), side=16)
    assert len(found) == 99
    (reason,) = found.broken
    assert "detection/images/train/2.png" in reason
    assert found.objects is not None and len(found.objects.boxes) == 99
    assert found.objects.boxes[:3, 0, 0].tolist() == [1, 3, 4], "labels stay with their pictures"


def test_two_broken_pictures_in_a_hundred_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"detection: 2 of 100 pictures cannot be read, first: .*2\.png"):
        datasets.load_detection(broken_detection(tmp_path, 100, 2), side=16)


def test_scenes_keep_their_labels_when_a_picture_is_broken(tmp_path: Path) -> None:
    for number in range(100):
        name = SCENES[number % 2]
        path = tmp_path / f"classification/cats_dogs/train/{name}/{number:03}.png"
        paint(path, (16, 16), [], ground=GREY[name])
    (tmp_path / f"classification/cats_dogs/train/{SCENES[0]}/000.png").write_bytes(b"")
    found = load(tmp_path, "scenes")
    assert found.labels is not None and torch.bincount(found.labels).tolist() == [49, 50]
    assert found.pictures[:, 8, 8, 0].tolist() == [GREY[SCENES[label]] for label in found.labels.tolist()]


def people(folder: Path, pictures: int, broken: int) -> Path:
    for number in range(pictures):
        path = folder / f"face_recognition/train/Person_{number % 5}/lfw_{number}.png"
        paint(path, (16, 16), [])
        if number < broken:
            path.write_bytes(b"")
    (folder / "face_recognition/ytf_landmarks5_train.json").write_text("[]")
    return folder


def test_broken_crops_are_counted_too(tmp_path: Path) -> None:
    found = datasets.load_identities(people(tmp_path, 100, 1))
    assert len(found) == 99 and found.labels is not None and len(found.labels) == 99
    assert "lfw_0.png" in found.broken[0]


def test_more_broken_crops_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"identities: 2 of 100 pictures cannot be read, first: .*lfw_0"):
        datasets.load_identities(people(tmp_path, 100, 2))


def test_points_that_fit_no_face_count_as_a_broken_crop(tmp_path: Path) -> None:
    people(tmp_path, 100, 0)
    known = [{"file": "Person_0/lfw_0.png", "points5": [[3.0, 3.0]] * 5}]
    (tmp_path / "face_recognition/ytf_landmarks5_train.json").write_text(json.dumps(known))
    found = datasets.load_identities(tmp_path)
    assert len(found) == 99
    assert "lfw_0.png" in found.broken[0] and "one spot" in found.broken[0]


@pytest.mark.parametrize(("kind", "file"), [(kind, file) for kind, files in ANNOTATIONS.items() for file in files])
def test_a_missing_annotation_file_is_one_sentence(data: Path, tmp_path: Path, kind: str, file: str) -> None:
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / file).unlink()
    with pytest.raises(DataError, match=f"{file}: cannot be read: No such file") as refused:
        load(folder, kind)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("kind", "file"), [(kind, file) for kind, files in ANNOTATIONS.items() for file in files])
@pytest.mark.parametrize("content", ['{"images": [', "7", "{}", '{"images": [{}], "annotations": [{}]}', '[{"a": 1}]'])
def test_an_annotation_file_of_another_kind_is_one_sentence(
    data: Path, tmp_path: Path, kind: str, file: str, content: str
) -> None:
    folder = shutil.copytree(data, tmp_path / "data")
    (folder / file).write_text(content)
    with pytest.raises(DataError, match=f"{file}") as refused:
        load(folder, kind)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(("kind", "missing"), [("scenes", "classification"), ("identities", "face_recognition/train")])
def test_a_missing_folder_of_pictures_is_one_sentence(data: Path, tmp_path: Path, kind: str, missing: str) -> None:
    folder = shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(folder / missing)
    with pytest.raises(DataError, match=f"{kind}: there are no pictures"):
        load(folder, kind)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data .*nowhere: no such folder"):
        load(tmp_path / "nowhere", "scenes")


def test_a_set_moves_to_a_device_with_all_it_has(data: Path) -> None:
    for kind in KINDS:
        found = load(data, kind)
        moved = found.to(torch.device("cpu"))
        assert len(moved) == len(found) and moved.classes == found.classes and moved.name == kind
        assert (moved.objects is None, moved.faces is None, moved.labels is None) == (
            found.objects is None,
            found.faces is None,
            found.labels is None,
        )
