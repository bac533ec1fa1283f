import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from scipy.special import softmax

from engines.data.coco import read_coco
from engines.data.folders import pictures_below, read_points
from engines.data.pairs import read_pairs
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation import report
from engines.evaluation.truth import Truth
from engines.spec import NONE_OF_THESE, Model, SceneGroup
from tests.engines.evaluation.colours import open_colours

HEADLINES = [
    ("objects", "ap50"),
    ("objects", "person_ap50"),
    ("faces", "ap50"),
    ("faces", "nme"),
    ("scene", "top1"),
    ("identity", "accuracy"),
    ("identity", "accuracy_end_to_end"),
]


@pytest.fixture(autouse=True)
def colour_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "open_engine", open_colours)


def test_the_report_has_the_keys_that_scripts_read(model: Model, data: Path) -> None:
    content = json.loads(msgspec.json.encode(report.evaluate_model(model, data)))
    assert content["objects"].keys() >= {"ap", "ap50", "person_ap50"}
    assert content["faces"].keys() >= {"ap50", "nme", "nme_box", "nme_missed"}
    assert content["scene"].keys() >= {"top1", "top5", "ece", "confusion"}
    assert content["identity"].keys() >= {"accuracy", "accuracy_end_to_end", "dir_at_far_1e-1"}
    assert content["bootstrap"].items() >= {"resamples": 1000, "seed": 0, "confidence": 0.95}.items()
    assert all(content[task]["intervals"][name].keys() == {"low", "high"} for task, name in HEADLINES)
    assert content["identity"]["crops"]["lfw"].keys() >= {"tar_at_far_1e-2", "tar_at_far_1e-3", "threshold_at_far_1e-3"}
    assert (content["model"], content["backend"], content["precision"]) == ("colours", "colours", "f32")
    assert content["fingerprint"] == model.fingerprint


def test_only_the_tasks_asked_for_are_there(model: Model, data: Path) -> None:
    content = json.loads(msgspec.json.encode(report.evaluate_model(model, data, tasks=["scene"], limit=3)))
    assert content["scene"]["pictures"] == content["limit"] == 3
    assert content.keys().isdisjoint({"objects", "faces", "identity"})


def test_a_folder_that_is_not_there_is_named(model: Model, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: is not a folder"):
        report.evaluate_model(model, tmp_path / "nowhere")


def test_calibration_opens_the_model_by_itself(model: Model, data: Path) -> None:
    chosen = report.calibrate(model, data)
    assert chosen.thresholds != model.spec.thresholds
    assert chosen.identity is not None


def test_the_real_validation_data_can_be_read() -> None:
    data = Path(os.environ.get("TRUNKLINE_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not data.is_dir():
        pytest.skip(f"no data in {data}; set TRUNKLINE_DATA")
    skipped, faces = SkippedRows(), data / "face_recognition"
    for folder, name in (("detection", "instances"), ("face_detection", "instances"), ("face_landmarks", "landmarks")):
        truth = read_coco(data, folder, f"{name}_val.json", skipped)
        assert truth.boxes and all(path.is_file() for path in truth.pictures.values())
    for name in ("lfw", "ytf", "bolly", "cross"):
        pairs = read_pairs(faces / f"pairs_val_{name}.txt", faces / "val", skipped)
        assert all((len(set(pair.identities)) == 1) == pair.genuine for pair in pairs)
        assert all(path.is_file() for pair in pairs for path in (pair.first, pair.second))
    assert read_points(faces / "ytf_landmarks5_val.json", faces / "val").keys() <= set(pictures_below(faces / "val"))
    assert skipped.rows == []


def test_pictures_of_places_come_from_all_sets_and_not_from_other_scenes(model: Model) -> None:
    groups = (SceneGroup("yard", "outdoors", ("yard", "shed")), SceneGroup(NONE_OF_THESE, None, (NONE_OF_THESE,)))
    spec = msgspec.structs.replace(model.spec, scene_groups=groups)
    standard = Truth("standard", scene=[("cat", Path("cat.jpg")), ("yard", Path("1.jpg"))])
    places = Truth("places", scene=[("shed", Path("2.jpg")), (NONE_OF_THESE, Path("3.jpg"))])
    scenes = report.place_scenes(spec)
    assert scenes == {"yard", "shed"}
    assert report.of_scenes(scenes, (standard, Truth("people"), places)) == [Path("1.jpg"), Path("2.jpg")]
    assert report.of_scenes(scenes, [Truth("people")]) == []


def test_scenes_that_are_no_places_are_weighed_against_those_that_are(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of pictures of places and of cats, whose cat's logit is three too high."""
    groups = (SceneGroup("yard", "outdoors", ("yard", "shed")), SceneGroup(NONE_OF_THESE, None, (NONE_OF_THESE,)))
    spec = msgspec.structs.replace(model.spec, scenes=("yard", "cat", "shed"), scene_groups=groups)
    logits = {"yard.jpg": [2.0, 0.0, 1.0], "shed.jpg": [0.5, 0.0, 2.0], "cat.jpg": [0.0, 2.0, -1.0]}
    told = {name: softmax(np.add(row, [0.0, 3.0, 0.0])) for name, row in logits.items()}

    class Runner:
        def see(self, _title: str, paths: Sequence[Path], *_: object) -> list[SimpleNamespace]:
            return [SimpleNamespace(detections=SimpleNamespace(scene=told[path.name])) for path in paths]

    monkeypatch.setattr(report, "open_runner", lambda *_: nullcontext(Runner()))
    places, things = [Path("yard.jpg"), Path("shed.jpg")], [Path("cat.jpg")]
    assert report.thing_shift_of(replace(model, spec=spec), places, things) == pytest.approx(3.0, abs=1e-4)
