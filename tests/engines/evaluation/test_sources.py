"""Figures of each source of pictures, and further sets of a folder."""

from pathlib import Path

import msgspec
import pytest

from engines.data.coco import CocoBox, CocoSet
from engines.evaluation.coco import BoxDetection
from engines.evaluation.detection import SOURCE_PICTURES, score_sources, sources_of
from engines.evaluation.matching import match
from engines.evaluation.sets import sets_in
from engines.spec import ModelSpec, NetworkSettings
from tests.pipeline.wire.test_scene import ENTRY

BOX = (10.0, 10.0, 40.0, 40.0)


def pictures(**counts: int) -> CocoSet:
    """So many pictures of each source, each with a box of a cat."""
    names = [f"{source}_{number}.webp" for source, count in counts.items() for number in range(count)]
    boxes = [CocoBox(key, key, 1, BOX) for key in range(1, len(names) + 1)]
    return CocoSet({key: Path(name) for key, name in enumerate(names, start=1)}, boxes, {1: "cat", 2: "dog"})


def test_the_beginning_of_a_name_tells_the_source() -> None:
    found = sources_of(pictures(voc=SOURCE_PICTURES, road=2 * SOURCE_PICTURES, rare=3))
    assert {name: len(keys) for name, keys in found.items()} == {
        "road": 2 * SOURCE_PICTURES,
        "voc": SOURCE_PICTURES,
        "other": 3,
    }
    assert list(found) == ["road", "voc", "other"]


@pytest.mark.parametrize("counts", [{"voc": 100}, {f"person{number}": 2 for number in range(60)}])
def test_one_source_or_names_of_people_are_none(counts: dict[str, int]) -> None:
    assert sources_of(pictures(**counts)) == {}
    assert score_sources(pictures(**counts), match(pictures(**counts), [])) == {}


def test_each_source_is_scored_by_its_own_pictures() -> None:
    truth = pictures(voc=SOURCE_PICTURES, road=SOURCE_PICTURES)
    found = [BoxDetection(key, 1, BOX, 0.9) for key, path in truth.pictures.items() if path.name.startswith("voc")]
    scores = score_sources(truth, match(truth, found))
    assert {name: each.ap50 for name, each in scores.items()} == {"voc": pytest.approx(1.0), "road": 0.0}
    assert {each.boxes for each in scores.values()} == {each.pictures for each in scores.values()} == {SOURCE_PICTURES}


def spec(objects: tuple[str, ...], scenes: tuple[str, ...]) -> ModelSpec:
    return ModelSpec(
        format=1, name="made", frame=ENTRY, face=None, objects=objects, scenes=scenes, network=NetworkSettings()
    )


def test_a_folders_further_sets_are_those_whose_labels_the_model_knows(tmp_path: Path) -> None:
    for folder in ("detection_cameras/images/val", "places/val/yard", "places/val/bar", "face_recognition_celeba/val"):
        (tmp_path / folder).mkdir(parents=True)
    knows = spec(("person", "car", "motorbike", "bus", "cat"), ("bar", "yard"))
    tasks = ("objects", "scene", "identity")
    assert set(sets_in(tmp_path, knows, tasks)) == {"cameras", "places", "celebrities"}
    assert set(sets_in(tmp_path, knows, ("objects",))) == {"cameras"}
    assert set(sets_in(tmp_path, msgspec.structs.replace(knows, scenes=("bar",)), tasks)) == {"cameras", "celebrities"}
    assert set(sets_in(tmp_path, msgspec.structs.replace(knows, objects=("person",)), ("objects",))) == set()
