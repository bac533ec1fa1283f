import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from engines.alignment import TEMPLATE
from engines.data.sources import Coco, Folders
from engines.errors import DataError
from engines.training.datasets import LoadedDatasets, PictureSet, load_sets
from engines.training.settings import DatasetSettings
from tests.engines.evaluation.colours import GREY, SCENES, face_colour, paint, write_coco
from tests.engines.training.made_data import (
    FACE,
    IDENTITIES,
    OTHER_FACE,
    PICTURES,
    SETS,
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


CANVAS = {"detection": 384, "face_detection": 416, "face_landmarks": 224, "scenes": 192, "identities": 112}


def load(data: Path, kind: str) -> PictureSet:
    (found,) = read(data, dataset(kind, canvas=CANVAS[kind])).sets
    return found


def read(data: Path, *entries: DatasetSettings) -> LoadedDatasets:
    return load_sets(entries, data)


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
    assert read(data, dataset("detection")).objects == ("cat", "person")


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
    assert read(tmp_path, dataset("detection")).objects == ("bike", "tram")
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
    assert read(data, dataset("scenes")).scenes == SCENES
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


def small(data: Path, kind: str) -> PictureSet:
    """On canvases of 16 pixels, as large as the pictures."""
    (found,) = read(data, dataset(kind, canvas=16)).sets
    return found


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
    found = small(broken_detection(tmp_path, 100, 1), "detection")
    assert len(found) == 99
    (reason,) = found.broken
    assert "detection/images/train/2.png" in reason
    assert found.objects is not None and len(found.objects.boxes) == 99
    assert found.objects.boxes[:3, 0, 0].tolist() == [1, 3, 4], "labels stay with their pictures"


def test_two_broken_pictures_in_a_hundred_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"detection, pictures: 2 of 100 rows cannot be read, .*3\.png"):
        small(broken_detection(tmp_path, 100, 2), "detection")


def test_scenes_keep_their_labels_when_a_picture_is_broken(tmp_path: Path) -> None:
    paint(tmp_path / f"classification/imagenette10/train/{SCENES[0]}/first.png", (16, 16), [], ground=GREY[SCENES[0]])
    for number in range(100):
        name = SCENES[number % 2]
        path = tmp_path / f"classification/cats_dogs/train/{name}/{number:03}.png"
        paint(path, (16, 16), [], ground=GREY[name])
    (tmp_path / f"classification/cats_dogs/train/{SCENES[0]}/000.png").write_bytes(b"")
    found = load(tmp_path, "scenes")
    assert found.labels is not None and torch.bincount(found.labels).tolist() == [50, 50]
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
    found = load(people(tmp_path, 100, 1), "identities")
    assert len(found) == 99 and found.labels is not None and len(found.labels) == 99
    assert "lfw_0.png" in found.broken[0]


def test_more_broken_crops_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"identities, pictures: 2 of 100 rows cannot be read, .*lfw_1"):
        load(people(tmp_path, 100, 2), "identities")


def test_points_that_fit_no_face_count_as_a_broken_crop(tmp_path: Path) -> None:
    people(tmp_path, 100, 0)
    known = [{"file": "Person_0/lfw_0.png", "points5": [[3.0, 3.0]] * 5}]
    (tmp_path / "face_recognition/ytf_landmarks5_train.json").write_text(json.dumps(known))
    found = load(tmp_path, "identities")
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


@pytest.mark.parametrize(
    ("kind", "missing"), [("scenes", "classification/cats_dogs/train"), ("identities", "face_recognition/train")]
)
def test_a_missing_folder_of_pictures_is_one_sentence(data: Path, tmp_path: Path, kind: str, missing: str) -> None:
    folder = shutil.copytree(data, tmp_path / "data")
    shutil.rmtree(folder / missing)
    with pytest.raises(DataError, match=f"{missing}: no such folder"):
        load(folder, kind)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--data .*nowhere: no such folder"):
        load(tmp_path / "nowhere", "scenes")


def test_a_set_moves_to_a_device_with_all_it_has(data: Path) -> None:
    for kind in SETS:
        found = load(data, kind)
        moved = found.to(torch.device("cpu"))
        assert len(moved) == len(found) and moved.classes == found.classes and moved.name == kind
        assert (moved.objects is None, moved.faces is None, moved.labels is None) == (
            found.objects is None,
            found.faces is None,
            found.labels is None,
        )


def boxes_in(folder: Path, name: str, classes: list[str], files: list[str]) -> DatasetSettings:
    """A set of pictures with one box each, whose class is the first."""
    for file in files:
        paint(folder / name / "images/train" / file, (32, 32), [])
    rows = [{"image_id": n, "category_id": 1, "bbox": [1, 2, 3, 4]} for n in range(1, len(files) + 1)]
    write_coco(folder / name, "boxes.json", classes, files, rows)
    return DatasetSettings(
        name=name, images=f"{name}/images/train", objects=Coco(file=f"{name}/annotations/boxes.json"), canvas=32
    )


def test_a_run_knows_the_classes_of_all_its_sets_and_each_set_those_it_labels(tmp_path: Path) -> None:
    first = boxes_in(tmp_path, "zoo", ["zebra", "cat"], ["1.png"])
    second = boxes_in(tmp_path, "home", ["cat", "chair"], ["1.png"])
    loaded = read(tmp_path, first, second)
    assert loaded.objects == ("zebra", "cat", "chair"), "in the order in which they appear"
    zoo, home = (each.objects for each in loaded.sets)
    assert zoo is not None and home is not None and zoo.known is not None and home.known is not None
    assert (zoo.classes.tolist(), home.classes.tolist()) == ([[0]], [[1]])
    assert (zoo.known.tolist(), home.known.tolist()) == ([[True, True, False]], [[False, True, True]])
    assert all(each.classes == 3 for each in loaded.sets)


def test_a_set_that_labels_all_classes_needs_no_mask(tmp_path: Path) -> None:
    (only,) = read(tmp_path, boxes_in(tmp_path, "zoo", ["zebra"], ["1.png"])).sets
    assert only.objects is not None and only.objects.known is None


def silver_in(folder: Path, entry: DatasetSettings, rows: list[dict[str, object]]) -> DatasetSettings:
    """The set with a detector's boxes of cat, dog and zebra beside its labels."""
    write_coco(folder / entry.name, "silver.json", ["cat", "dog", "zebra"], ["1.png", "2.png"], rows)
    return msgspec.structs.replace(entry, objects_silver=Coco(file=f"{entry.name}/annotations/silver.json"))


def test_a_detector_fills_in_what_the_labels_of_a_picture_do_not_cover(tmp_path: Path) -> None:
    entry = boxes_in(tmp_path, "zoo", ["zebra", "cat"], ["1.png", "2.png"])
    entry = msgspec.structs.replace(
        entry, objects=msgspec.structs.replace(entry.objects, labelled={"^1": ("zebra", "cat"), "^2": ("zebra",)})
    )
    entry = silver_in(
        tmp_path,
        entry,
        [
            {"image_id": 1, "category_id": 1, "bbox": [20, 20, 8, 8], "score": 0.9},  # a cat: labelled there
            {"image_id": 1, "category_id": 2, "bbox": [20, 20, 8, 8], "score": 0.6},  # a dog
            {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 3.9], "score": 0.8},  # a dog that is labelled zebra
            {"image_id": 2, "category_id": 1, "bbox": [20, 20, 8, 8], "score": 0.4},  # a cat: not labelled there
            {"image_id": 2, "category_id": 3, "bbox": [20, 20, 8, 8], "score": 0.7},  # a zebra: labelled there
        ],
    )
    loaded = read(tmp_path, entry)
    assert loaded.objects == ("zebra", "cat", "dog")
    found = loaded.sets[0].objects
    assert found is not None and found.scores is not None
    assert found.classes.tolist() == [[0, 2], [0, 1]]
    assert found.scores.tolist() == [[1.0, pytest.approx(0.6)], [1.0, pytest.approx(0.4)]]
    assert found.known is None, "what the labels do not cover, the detector does"


def test_what_a_picture_says_of_itself_comes_before_what_its_name_says(tmp_path: Path) -> None:
    entry = boxes_in(tmp_path, "zoo", ["zebra", "cat"], ["1.png", "2.png"])
    file = tmp_path / "zoo/annotations/boxes.json"
    content = json.loads(file.read_text())
    content["images"][0]["labelled"] = ["cat"]
    file.write_text(json.dumps(content))
    entry = msgspec.structs.replace(
        entry, objects=msgspec.structs.replace(entry.objects, labelled={"png": ("horse",)}, rename={"zebra": "horse"})
    )
    found = read(tmp_path, entry).sets[0].objects
    assert found is not None and found.known is not None
    assert found.known.tolist() == [[False, True], [True, False]]
    assert found.classes.tolist() == [[0], [0]], "its box is there all the same"


def test_only_the_classes_of_the_run_are_kept_in_their_order(tmp_path: Path) -> None:
    entry = silver_in(
        tmp_path,
        boxes_in(tmp_path, "zoo", ["zebra", "cat"], ["1.png"]),
        [{"image_id": 1, "category_id": 2, "bbox": [20, 20, 8, 8], "score": 0.6}],
    )
    loaded = load_sets([entry], tmp_path, objects=("bird", "dog", "cat"))
    found = loaded.sets[0].objects
    assert loaded.objects == ("bird", "dog", "cat") and found is not None and found.known is not None
    assert found.classes.tolist() == [[1]], "the zebra is left out"
    assert found.known.tolist() == [[False, True, True]], "nobody looked for birds"


def test_sets_tell_only_their_own_scenes_and_people_apart(data: Path) -> None:
    scenes, faces = dataset("scenes"), dataset("identities")
    assert scenes.scene is not None
    renamed = msgspec.structs.replace(
        scenes.scene, rename=dict.fromkeys((*SCENES, "dog_english_springer"), "elsewhere")
    )
    loaded = read(data, scenes, msgspec.structs.replace(scenes, name="other", scene=renamed), faces)
    first, second, people = loaded.sets
    names = [loaded.scenes[number] for number in first.choices.tolist()] if first.choices is not None else []
    assert sorted(names) == sorted(SCENES)
    assert second.choices is not None and [loaded.scenes[n] for n in second.choices.tolist()] == ["elsewhere"]
    assert people.choices is None, "there is no other set of people"


def test_a_teachers_embeddings_come_along_less_what_all_faces_share(data: Path) -> None:
    entry = dataset("identities")
    assert entry.identity is not None
    folder = data / entry.identity.folders[0]
    files = sorted(file.relative_to(folder).as_posix() for file in folder.glob("*/*"))
    said = np.random.default_rng(0).normal(size=(len(files), 8)).astype(np.float16) + 5
    np.savez(data / "said.npz", paths=np.array(files), embeddings=said)
    source = msgspec.structs.replace(entry.identity, embeddings="said.npz")
    entry = msgspec.structs.replace(entry, identity=source)
    (found,) = read(data, entry).sets
    assert found.embeddings is not None and found.embeddings.shape == (len(found), 8)
    assert torch.allclose(found.embeddings.norm(dim=1), torch.ones(len(found)))
    rows = {name: row for name, row in zip(files, said.astype(np.float32), strict=True)}
    kept = torch.from_numpy(np.stack([rows[file.relative_to(folder).as_posix()] for file in found.files]))
    assert torch.allclose(found.embeddings, torch.nn.functional.normalize(kept - kept.mean(0), dim=1), atol=1e-5)
    np.savez(data / "said.npz", paths=np.array(files[1:]), embeddings=said[1:])
    with pytest.raises(DataError, match=r"said\.npz: has no embedding of .*"):
        read(data, entry)


def test_decoded_pictures_may_lie_in_a_file(data: Path, tmp_path: Path) -> None:
    entry = dataset("detection")
    (plain,), (mapped,) = (load_sets([entry], data, cache=cache).sets for cache in (None, tmp_path / "cache"))
    assert torch.equal(plain.pictures, mapped.pictures)
    assert plain.half is not None and mapped.half is not None and torch.equal(plain.half, mapped.half)
    assert list((tmp_path / "cache").iterdir()) == [], "which is gone with the process"


def test_a_picture_that_only_one_of_two_sources_lists_is_unlabelled_for_the_other(tmp_path: Path) -> None:
    entry = boxes_in(tmp_path, "zoo", ["zebra"], ["1.png", "2.png"])
    write_coco(tmp_path / "zoo", "faces.json", ["face"], ["2.png"], [])
    entry = msgspec.structs.replace(entry, faces=Coco(file="zoo/annotations/faces.json"))
    (found,) = read(tmp_path, entry).sets
    assert found.faces is not None
    assert found.faces.ignore.tolist() == [[True], [False]]
    assert found.faces.classes.tolist() == [[0], [-1]], "the second has no faces, which is known"
    assert (found.faces.boxes[0, 0, 2:] > 32).all(), "what is ignored is the whole picture"


def test_the_pictures_of_one_person_are_a_group(data: Path) -> None:
    found = load(data, "identities")
    assert found.groups is not None and found.groups.tolist() == [0, 0, 1, 1, 2, 2]
    assert [file.parent.name for file in found.files] == [name for name in IDENTITIES for _ in range(2)]


def test_a_pattern_says_which_pictures_belong_together(tmp_path: Path) -> None:
    entry = boxes_in(tmp_path, "zoo", ["zebra"], ["Ada_1.png", "Ada_2.png", "Bo_1.png", "other.png", "more.png"])
    assert [each.groups.tolist() for each in read(tmp_path, entry).sets if each.groups is not None] == [[0, 1, 2, 3, 4]]
    (found,) = read(tmp_path, msgspec.structs.replace(entry, group=r"^(\w+)_")).sets
    assert found.groups is not None and found.groups.tolist() == [0, 0, 1, 2, 3], "what does not match is its own"
    with pytest.raises(DataError, match=r"zoo: group 'x_' is in no file name, as in Ada_1\.png"):
        read(tmp_path, msgspec.structs.replace(entry, group="x_"))


def test_two_sets_of_people_share_their_names(tmp_path: Path) -> None:
    for folder, names in {"one": ("Bo", "Cy"), "two": ("Ada", "Bo")}.items():
        for name in names:
            paint(tmp_path / folder / name / "1.png", (16, 16), [])
    loaded = read(tmp_path, *(DatasetSettings(name=name, identity=Folders(folders=(name,))) for name in ("one", "two")))
    assert loaded.identities == ("Ada", "Bo", "Cy")
    assert [each.labels.tolist() for each in loaded.sets if each.labels is not None] == [[1, 2], [0, 1]]


def test_a_limit_takes_pictures_from_the_whole_length_with_their_labels(data: Path) -> None:
    (found,) = load_sets([dataset("scenes")], data, limit=3).sets
    assert found.labels is not None and found.labels.tolist() == [1, 2, 2]


def test_what_is_too_much_is_only_said_where_that_is_asked_for(tmp_path: Path) -> None:
    loaded = load_sets([dataset("detection")], broken_detection(tmp_path, 100, 3), strict=False)
    assert len(loaded.sets[0]) == 97 and len(loaded.sets[0].broken) == 3
    (sentence,) = loaded.refusals
    assert "3 of 100 rows cannot be read" in sentence


def test_pictures_of_which_none_can_be_read_are_refused_all_the_same(tmp_path: Path) -> None:
    entry = boxes_in(tmp_path, "zoo", ["zebra"], ["1.png"])
    (tmp_path / "zoo/images/train/1.png").write_bytes(b"")
    with pytest.raises(DataError, match="zoo: none of its 1 pictures can be read"):
        load_sets([entry], tmp_path, strict=False)
