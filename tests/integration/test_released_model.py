"""The released model: whole, the same on every engine, and as good as its release had to be."""

import os
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import skimage

from engines.compiling.parity import check_parity
from engines.engine import open_engine
from engines.evaluation.report import evaluate_model
from engines.spec import Model, load_model
from pipeline.enrolling import FaceReader, enroll_photos
from pipeline.gallery import Gallery

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("TRUNKLINE_DATA") or ROOT.parent / "shared/data")
ASTRONAUT = Path(skimage.__file__).parent / "data/astronaut.png"
HOPPER = Path(matplotlib.get_data_path()) / "sample_data/grace_hopper.jpg"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(ROOT / "engines/zoo/n")


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
    report = evaluate_model(model, DATA)
    assert report.objects and report.faces and report.scene and report.identity
    assert report.objects.ap50 is not None and report.objects.ap50 >= 0.18
    assert report.objects.person_ap50 is not None and report.objects.person_ap50 >= 0.28
    assert report.faces.ap50 is not None and report.faces.ap50 >= 0.55
    assert report.faces.nme_box is not None and report.faces.nme_box <= 0.08
    assert report.scene.top1 >= 0.72
    assert report.identity.accuracy >= 0.82
