from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines.boxes import letterbox
from engines.decode import Detections, decode
from engines.detectors.importing import import_detector
from engines.detectors.layout import LAYOUTS, LayoutName
from engines.engine import open_engine
from engines.errors import ModelError
from engines.pictures import letterbox_rgb
from engines.spec import Model, load_model
from tests.engines.detectors.made import (
    CELLS,
    DOG,
    INPUT_OF,
    NAMES,
    PICTURE,
    PLACEMENTS,
    SIDE,
    detector,
    outputs_of,
    rows,
    yolox,
)

LETTERBOXED = letterbox((PICTURE.shape[1], PICTURE.shape[0]), (SIDE, SIDE))


def seen_by(model: Model, pictures: int = 1) -> list[Detections]:
    entry = model.spec.entry("frame")
    box = letterbox((PICTURE.shape[1], PICTURE.shape[0]), (entry.width, entry.height))
    engine = open_engine(model, "frame", "onnxruntime", "f32")
    try:
        outputs = engine.infer(np.repeat(letterbox_rgb(PICTURE, box)[None], pictures, 0))
    finally:
        engine.close()
    return decode(outputs, [box] * pictures, model.spec.thresholds)


def dog_in_letterbox(name: LayoutName) -> list[float]:
    """Where the dog of a made detector lies in the picture when that is letterboxed, whatever its project does."""
    inside = np.array(DOG if name == "rtdetr" else INPUT_OF[PLACEMENTS.get(name, "stretch")])
    pad, scale = np.tile(LETTERBOXED.pad, 2), np.tile(LETTERBOXED.scaled[0] / LETTERBOXED.source[0], 2)
    return [float(value) for value in np.clip((inside - pad) / np.concatenate([scale, scale]), 0, [200, 100] * 2)]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_detector_of_each_layout_becomes_a_model_that_finds_what_it_finds(tmp_path: Path, name: LayoutName) -> None:
    file = detector(tmp_path / "d.onnx", outputs_of(name), inputs=2 if name == "rtdetr" else 1)
    model = import_detector(file, tmp_path / "model", names=NAMES)
    assert model.spec.imported is not None and model.spec.imported.layout == name
    assert model.spec.network.tasks == ("objects",) and model.spec.face is None
    for found in seen_by(model, pictures=2):
        assert [model.spec.objects[label] for label in found.objects.labels] == ["dog"]
        assert found.objects.scores.tolist() == pytest.approx([0.72], abs=1e-4)
        assert found.objects.boxes[0].tolist() == pytest.approx(dog_in_letterbox(name), abs=0.2)


def test_cells_that_a_yolox_leaves_to_us_are_decoded_in_the_graph(tmp_path: Path) -> None:
    file = detector(tmp_path / "d.onnx", yolox(INPUT_OF["centre"], raw=True))
    (found,) = seen_by(import_detector(file, tmp_path / "model", names=NAMES))
    assert found.objects.boxes[0].tolist() == pytest.approx(DOG, abs=0.2)


def test_beside_a_model_its_faces_scenes_and_identities_are_there_too(tmp_path: Path) -> None:
    own = load_model("n")
    file = detector(tmp_path / "d.onnx", outputs_of("yolov8"))
    model = import_detector(file, tmp_path / "model", names=NAMES, beside=own, name="both")
    assert model.spec.name == "both" and model.spec.network.tasks == own.spec.network.tasks
    assert model.spec.objects == NAMES and model.spec.scenes == own.spec.scenes
    assert model.fingerprint == own.fingerprint, "faces that were enrolled with it are known"
    (found,) = seen_by(model)
    assert found.objects.boxes[0].tolist() == pytest.approx(DOG, abs=0.2)
    assert found.scene.sum() == pytest.approx(1.0, abs=1e-3)


def test_faces_beside_a_detector_lie_where_the_model_alone_finds_them(tmp_path: Path) -> None:
    """The detector's input is larger and of another shape, so that the picture is scaled and padded in the graph."""
    import skimage

    from engines.pictures import read_rgb

    photo = read_rgb(Path(skimage.__file__).parent / "data/astronaut.png")
    own = load_model("n")
    file = detector(tmp_path / "d.onnx", {"output0": rows(7, 64 * 32 + 32 * 16 + 16 * 8)}, sides=(512, 256))
    both = import_detector(file, tmp_path / "model", names=NAMES, beside=own)
    faces = []
    for model in (own, both):
        entry = model.spec.entry("frame")
        box = letterbox((photo.shape[1], photo.shape[0]), (entry.width, entry.height))
        engine = open_engine(model, "frame", "onnxruntime", "f32")
        (found,) = decode(engine.infer(letterbox_rgb(photo, box)[None]), [box], model.spec.thresholds)
        engine.close()
        faces.append(found.faces)
    assert len(faces[0].scores) == len(faces[1].scores) == 1
    side = np.ptp(faces[0].boxes[0].reshape(2, 2), axis=0).max()
    assert np.abs(faces[0].boxes - faces[1].boxes).max() < 0.1 * side
    assert np.abs(faces[0].landmarks - faces[1].landmarks).max() < 0.1 * side


def one_picture_only(path: Path) -> Path:
    """A file whose nodes know that there is one picture: it gives the same rows for any number."""
    taken = [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])]
    given = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 7, CELLS])]
    constant = numpy_helper.from_array(outputs_of("yolov8")["output"], "value")
    nodes = [helper.make_node("Identity", ["value"], ["output"])]
    graph = helper.make_graph(nodes, "made", taken, given, [constant])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_what_holds_for_one_picture_only_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="runs on one picture at a time only; export it with a dynamic batch"):
        import_detector(one_picture_only(tmp_path / "d.onnx"), tmp_path / "model", names=NAMES)
    assert not (tmp_path / "model").exists()


def test_a_folder_with_something_in_it_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/spec.json").write_text("mine")
    file = detector(tmp_path / "d.onnx", outputs_of("yolov8"))
    with pytest.raises(ModelError, match=r"OUT .*model: is there already; name a folder that is new or empty"):
        import_detector(file, tmp_path / "model", names=NAMES)
    assert (tmp_path / "model/spec.json").read_text() == "mine"


def test_pytorch_and_training_say_that_there_are_no_weights(tmp_path: Path) -> None:
    model = import_detector(detector(tmp_path / "d.onnx", outputs_of("yolov8")), tmp_path / "model", names=NAMES)
    with pytest.raises(ModelError, match=r"was imported from d\.onnx and has no weights for PyTorch"):
        open_engine(model, "frame", "torch")


def test_thresholds_are_the_models_unless_they_are_said(tmp_path: Path) -> None:
    file = detector(tmp_path / "d.onnx", outputs_of("end2end"))
    usual = import_detector(file, tmp_path / "usual", names=NAMES).spec.thresholds
    said = import_detector(file, tmp_path / "said", names=NAMES, thresholds={"object_score": 0.1}).spec.thresholds
    assert (usual.object_iou, said.object_score, said.object_iou) == (1.0, 0.1, 1.0)
