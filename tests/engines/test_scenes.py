"""Scenes told as kinds of place."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.errors import ModelError
from engines.scenes import grouped, likeliest
from engines.spec import NONE_OF_THESE, SceneGroup, load_model, write_spec
from engines.tasks.scene.groups import INDOORS, OUTDOORS, groups_of
from tests.engines.made_models import write_model

SCENES = ("bar", "cat", "coffee_shop", "yard", NONE_OF_THESE)
GROUPS = (
    SceneGroup("restaurant", "indoors", ("bar", "coffee_shop")),
    SceneGroup("yard", "outdoors", ("yard",)),
    SceneGroup(NONE_OF_THESE, None, (NONE_OF_THESE,)),
)
PLACES = tuple(sorted(place for groups in (INDOORS, OUTDOORS) for places in groups.values() for place in places))


def test_probabilities_of_a_group_add_up_and_other_scenes_are_left_out() -> None:
    said = np.array([[0.15, 0.5, 0.1, 0.125, 0.125], [0.0, 0.9, 0.0, 0.0, 0.1]], np.float32)
    np.testing.assert_allclose(grouped(said, GROUPS, SCENES), [[0.5, 0.25, 0.25], [0.0, 0.0, 1.0]], atol=1e-6)
    assert grouped(said, (), SCENES) is said
    assert grouped(np.zeros((2, 0), np.float32), GROUPS, SCENES).shape == (2, 0)


def test_none_of_these_must_be_likelier_than_not() -> None:
    said = np.array([[0.3, 0.25, 0.45], [0.2, 0.25, 0.55], [0.1, 0.8, 0.1]], np.float32)
    assert likeliest(said, GROUPS).tolist() == [0, 2, 1]
    assert likeliest(said[:, :2], GROUPS[:2]).tolist() == [0, 1, 1]


def test_each_place_is_in_one_group_and_what_is_no_place_in_none() -> None:
    groups = groups_of((*PLACES, "cat", "french_horn", NONE_OF_THESE))
    assert sorted(scene for group in groups for scene in group.scenes) == sorted((*PLACES, NONE_OF_THESE))
    assert groups[-1] == SceneGroup(NONE_OF_THESE, None, (NONE_OF_THESE,))
    assert {group.where for group in groups[:-1]} == {"indoors", "outdoors"}
    assert len(PLACES) == len(set(PLACES)) == 100
    assert 25 <= len(groups) <= 40
    assert groups_of(PLACES)[-1].name != NONE_OF_THESE


def test_a_network_that_was_taught_other_scenes_has_no_groups() -> None:
    assert groups_of(("cat", "dog", "church")) == ()
    assert groups_of(PLACES[:50]) == ()


def test_a_spec_whose_groups_are_not_those_of_its_scenes_is_refused(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "made").path
    spec = load_model(folder).spec
    assert spec.scene_labels == spec.scenes
    whole = SceneGroup("all", None, spec.scenes)
    write_spec(msgspec.structs.replace(spec, scene_groups=(whole,)), folder)
    assert load_model(folder).spec.scene_labels == ("all",)
    for groups in ((SceneGroup("others", None, ("mars",)),), (whole, SceneGroup("twice", None, spec.scenes[:1]))):
        write_spec(msgspec.structs.replace(spec, scene_groups=groups), folder)
        with pytest.raises(ModelError, match="only its scenes in scene_groups, and each of them once"):
            load_model(folder)
