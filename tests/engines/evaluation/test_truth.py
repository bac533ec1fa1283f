import json
from pathlib import Path

import msgspec
import pytest

from engines.data.coco import CocoSet
from engines.data.pairs import DRAWN_EACH, draw_pairs
from engines.data.sources import Coco, Folders, Wider
from engines.errors import ConfigError, DataError
from engines.evaluation import report
from engines.evaluation.truth import configured_truth, labelled_truth, standard_truth
from engines.spec import USUAL_TASKS, Model
from engines.training.settings import DatasetSettings, settings_of
from tests.engines.evaluation.colours import PEOPLE, open_colours, write_coco

CATS_AND_PEOPLE = DatasetSettings(
    name="boxes", images="detection/images/val", objects=Coco(file="detection/annotations/instances_val.json")
)
LANDMARKS = Coco(file="face_landmarks/annotations/landmarks_val.json")


def pictures(found: CocoSet | None) -> list[str]:
    assert found is not None
    return [path.name for path in found.pictures.values()]


def test_the_standard_folders_tell_all_tasks_and_what_is_asked_for_alone(data: Path) -> None:
    assert standard_truth(data, USUAL_TASKS).tasks == USUAL_TASKS
    some = standard_truth(data, ["scene"], limit=3)
    assert some.tasks == ("scene",) and some.scene is not None and len(some.scene) == some.limit == 3


def test_described_data_has_the_figures_of_the_same_data_in_the_standard_layout(
    model: Model, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "open_engine", open_colours)
    sets = (
        CATS_AND_PEOPLE,
        DatasetSettings(
            name="faces",
            images="face_detection/images/val",
            faces=Coco(file="face_detection/annotations/instances_val.json"),
        ),
        DatasetSettings(
            name="points", images="face_landmarks/images/val", faces=msgspec.structs.replace(LANDMARKS, only_near=True)
        ),
        DatasetSettings(
            name="scenes",
            scene=Folders(
                folders=("classification/imagenette10/val", "classification/cats_dogs/val"),
                rename={"dog_english_springer": "dog"},
            ),
        ),
        DatasetSettings(
            name="people",
            identity=Folders(folders=("face_recognition/val",), pairs="face_recognition/pairs_val_lfw.txt"),
        ),
    )
    own, standard = (report.evaluate_model(model, each) for each in (labelled_truth(sets, data), data))
    for task, figure in (("objects", "ap50"), ("faces", "ap50"), ("faces", "nme"), ("faces", "nme_missed")):
        assert getattr(getattr(own, task), figure) == getattr(getattr(standard, task), figure)
    assert own.scene and own.scene.top1 == 1.0
    assert own.identity and standard.identity and own.identity.headline == "people"
    assert own.identity.crops["people"].pairs == standard.identity.crops["lfw"].pairs
    assert own.identity.accuracy == standard.identity.accuracy
    assert own.identity.end_to_end is None, "only the standard layout has whole pictures of people"


@pytest.mark.parametrize(
    ("case", "source", "faces", "landmarks"),
    [
        ("all by hand", LANDMARKS, 3, 3),
        ("others in the pictures are unlabelled", msgspec.structs.replace(LANDMARKS, only_near=True), None, 3),
        ("points by machine", msgspec.structs.replace(LANDMARKS, machine_made=("points",)), 3, None),
        ("all by machine", msgspec.structs.replace(LANDMARKS, machine_made=("boxes", "points")), None, None),
    ],
)
def test_only_what_a_person_labelled_is_truth(
    data: Path, case: str, source: Coco, faces: int | None, landmarks: int | None
) -> None:
    truth = labelled_truth([DatasetSettings(name="x", images="face_landmarks/images/val", faces=source)], data)
    found = (truth.faces and len(truth.faces.boxes), truth.landmarks and len(truth.landmarks.boxes))
    assert found == (faces, landmarks), case
    assert truth.tasks == (("faces",) if faces or landmarks else ())


def test_a_class_that_a_set_does_not_label_is_ignored_in_its_pictures(tmp_path: Path) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}
    write_coco(tmp_path / "a", "x.json", ["cat"], ["1.png"], [box])
    write_coco(tmp_path / "b", "x.json", ["dog"], ["2.png", "1.png"], [box])
    first, second = (
        DatasetSettings(name=name, images="pictures", objects=Coco(file=f"{name}/annotations/x.json")) for name in "ab"
    )
    truth = labelled_truth([first, second], tmp_path).objects
    assert truth is not None and list(truth.categories.values()) == ["cat", "dog"]
    assert pictures(truth) == ["1.png", "2.png"], "a picture that both label is one"
    told = {(truth.pictures[box.image_id].name, truth.categories[box.category_id], box.ignored) for box in truth.boxes}
    assert told == {("1.png", "cat", False), ("2.png", "dog", False), ("2.png", "cat", True)}


def test_a_class_that_a_picture_says_is_not_labelled_in_it_is_ignored_there(tmp_path: Path) -> None:
    """Neither its boxes nor what is found of it count."""
    boxes = [{"image_id": n, "category_id": c, "bbox": [1, 1, 5, 5]} for n in (1, 2) for c in (1, 2)]
    write_coco(tmp_path / "a", "x.json", ["car", "bus"], ["1.png", "2.png"], boxes)
    file = tmp_path / "a/annotations/x.json"
    content = json.loads(file.read_text())
    content["images"][1]["labelled"] = ["bus"]
    file.write_text(json.dumps(content))
    entry = DatasetSettings(name="a", images="pictures", objects=Coco(file="a/annotations/x.json"))
    truth = labelled_truth([entry], tmp_path).objects
    assert truth is not None
    told = sorted(
        (truth.pictures[box.image_id].name, truth.categories[box.category_id], box.bbox[2], box.ignored)
        for box in truth.boxes
    )
    assert told == [
        ("1.png", "bus", 5, False),
        ("1.png", "car", 5, False),
        ("2.png", "bus", 5, False),
        ("2.png", "car", 5, True),
        ("2.png", "car", 1e6, True),
    ]


def test_only_some_files_may_count(data: Path) -> None:
    images = data / "detection/images/val"
    truth = labelled_truth([CATS_AND_PEOPLE], data, only={"boxes": [images / "2.png"]})
    assert pictures(truth.objects) == ["2.png"] and truth.objects is not None and len(truth.objects.boxes) == 2
    assert labelled_truth([CATS_AND_PEOPLE], data, only={"boxes": []}).tasks == ()


def test_faces_of_several_formats_are_of_one_category(tmp_path: Path) -> None:
    write_coco(tmp_path / "a", "x.json", ["person's face"], ["1.png"], [])
    (tmp_path / "w.txt").write_text("2.png\n1\n1 1 5 5 0 0 0 0 0 0\n")
    sources = {"a": Coco(file="a/annotations/x.json"), "w": Wider(file="w.txt")}
    sets = [DatasetSettings(name=name, images="pictures", faces=source) for name, source in sources.items()]
    truth = labelled_truth(sets, tmp_path)
    assert truth.faces is not None and truth.faces.categories == {1: "face"} and len(truth.faces.boxes) == 1


def test_pairs_are_drawn_alike_each_time_and_with_each_person_a_few_times() -> None:
    people = {Path(f"{name}/{number}.png"): name for name in PEOPLE[:3] for number in range(9)}
    pairs = draw_pairs(people, "people")
    assert pairs == draw_pairs(people, "people") != draw_pairs(people, "people", seed=1)
    genuine = [pair for pair in pairs if pair.genuine]
    assert all((people[pair.first] == people[pair.second]) == pair.genuine for pair in pairs)
    assert all(pair.identities == (people[pair.first], people[pair.second]) for pair in pairs)
    assert len(genuine) == 3 * DRAWN_EACH and len({(pair.first, pair.second) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize(
    ("case", "people"),
    [("one person", {"a/1": "a", "a/2": "a"}), ("one picture of each", {"a/1": "a", "b/1": "b"}), ("nobody", {})],
)
def test_too_few_people_give_no_pairs(case: str, people: dict[str, str]) -> None:
    with pytest.raises(DataError, match="people: pairs need two people or more and two pictures of one"):
        draw_pairs({Path(path): name for path, name in people.items()}, "people")


def test_a_person_may_have_several_folders(data: Path) -> None:
    people = Folders(folders=("face_recognition/val",), rename={PEOPLE[1]: PEOPLE[0]})
    truth = labelled_truth([DatasetSettings(name="people", identity=people)], data).identity
    assert truth is not None
    renamed = truth.crops["people"][4]
    assert renamed.parent.name == PEOPLE[1] and truth.who(renamed) == PEOPLE[0]
    assert all(PEOPLE[1] not in pair.identities for pair in truth.pairs["people"])


def test_what_the_data_does_not_tell_cannot_be_scored(model: Model, data: Path) -> None:
    truth = labelled_truth([CATS_AND_PEOPLE], data)
    with pytest.raises(DataError, match="says nothing about scene, only about objects"):
        report.evaluate_model(model, truth, tasks=["scene"])
    with pytest.raises(DataError, match="tells objects, and the model only faces"):
        truth.scored(["faces"])


SETTINGS = {"name": "x", "steps": 1, "datasets": [msgspec.to_builtins(CATS_AND_PEOPLE)]}


def test_a_configuration_without_validation_sets_means_the_standard_folders(data: Path) -> None:
    assert configured_truth(settings_of(SETTINGS, "x"), data, USUAL_TASKS).tasks == USUAL_TASKS
    own = settings_of({**SETTINGS, "validation_sets": SETTINGS["datasets"]}, "x")
    assert configured_truth(own, data, USUAL_TASKS).tasks == ("objects",)


@pytest.mark.parametrize(
    ("case", "entry", "message"),
    [
        (
            "pairs of scenes",
            {"name": "s", "scene": {"format": "folders", "folders": ["a"], "pairs": "p"}},
            "pairs must be left out of scene",
        ),
        (
            "pairs of several folders",
            {"name": "s", "identity": {"format": "folders", "folders": ["a", "b"], "pairs": "p"}},
            "pairs must be left out where there are 2 folders",
        ),
    ],
)
def test_pairs_belong_to_one_folder_of_people(case: str, entry: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_of({**SETTINGS, "validation_sets": [entry]}, case)


def test_pairs_are_none_of_the_training() -> None:
    entry = {"name": "s", "identity": {"format": "folders", "folders": ["a"], "pairs": "p"}}
    with pytest.raises(ConfigError, match="pairs must be left out of dataset 's'"):
        settings_of({**SETTINGS, "datasets": [entry]}, "x")
