"""The released models: whole, the same on every engine, and as good as their release had to be."""

import os
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage

from engines.compiling.parity import check_parity
from engines.engine import open_engine
from engines.evaluation.report import evaluate_model
from engines.spec import Model, load_model
from engines.zoo import released
from pipeline.gallery.enrolling import FaceReader, enroll_photos
from pipeline.gallery.gallery import Gallery
from pipeline.settings.schema import ModelSettings

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("TRUNKLINE_DATA") or ROOT.parent / "shared/data")
MODELS = (
    released() if os.environ.get("TRUNKLINE_DATA") else (ModelSettings().path,)
)  # the default one alone, unless all is asked for
LIMIT = None if os.environ.get("TRUNKLINE_DATA") else 120  # pictures or pairs of each set; all take minutes a model
ASTRONAUT = Path(skimage.__file__).parent / "data/astronaut.png"
HOPPER = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"

pytestmark = pytest.mark.integration


@dataclass(frozen=True, slots=True)
class Floors:
    """What a release had to reach on the validation splits."""

    objects_ap50: float
    person_ap50: float
    faces_ap50: float
    nme_box: float  # at most
    scene_top1: float
    verification: float


FLOORS = {
    "n": Floors(0.18, 0.28, 0.55, 0.08, 0.72, 0.82),
    "s": Floors(0.22, 0.33, 0.62, 0.07, 0.76, 0.84),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request: pytest.FixtureRequest) -> Model:
    return load_model(request.param)


def test_every_engine_says_the_same_of_real_photographs(model: Model) -> None:
    found = check_parity(model, ["onnxruntime", "openvino"], [ASTRONAUT, HOPPER], [ASTRONAUT, HOPPER])
    assert [each.backend for each in found if each.holds] == ["onnxruntime", "openvino"]


def test_two_people_are_told_apart(model: Model, tmp_path: Path) -> None:
    with (
        Gallery(tmp_path / "people.sqlite", model.fingerprint) as gallery,
        open_engine(model, "frame") as frame,
        open_engine(model, "face") as face,
    ):
        reader = FaceReader(model.spec, frame, face)
        enroll_photos(reader, gallery, "Eileen", [ASTRONAUT])
        enroll_photos(reader, gallery, "Grace", [HOPPER])
        vectors = gallery.snapshot().vectors
    assert float(vectors[0] @ vectors[1]) < model.spec.thresholds.identity_similarity
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


@pytest.mark.skipif(not DATA.is_dir(), reason="needs the validation data: TRUNKLINE_DATA or ../shared/data")
def test_the_figures_of_the_released_model_hold(model: Model) -> None:
    report = evaluate_model(model, DATA, limit=LIMIT)
    floors = FLOORS[model.spec.name]
    assert report.objects and report.faces and report.scene and report.identity
    assert report.objects.ap50 is not None and report.objects.ap50 >= floors.objects_ap50
    assert report.objects.person_ap50 is not None and report.objects.person_ap50 >= floors.person_ap50
    assert report.faces.ap50 is not None and report.faces.ap50 >= floors.faces_ap50
    assert report.faces.nme_box is not None and report.faces.nme_box <= floors.nme_box
    assert report.scene.top1 >= floors.scene_top1
    assert report.identity.accuracy >= floors.verification
