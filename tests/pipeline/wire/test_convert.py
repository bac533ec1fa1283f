"""Messages as supervision's detections and as COCO JSON."""

import json
from pathlib import Path

import numpy as np
import pytest

from engines.errors import ConfigError
from pipeline.wire.convert import to_coco, to_detections
from pipeline.wire.messages import ObjectMessage
from tests.pipeline.made_messages import frame

PERSON = ObjectMessage(17, "person", 0.91, (604.0, 210.0, 790.0, 940.0))
DOG = ObjectMessage(18, "dog", 0.5, (10.0, 20.0, 40.0, 80.0))


def test_objects_become_detections() -> None:
    pytest.importorskip("supervision", reason="supervision is missing")
    detections = to_detections(frame("door", 0, PERSON, DOG))
    assert len(detections) == 2
    np.testing.assert_array_equal(detections.xyxy, [PERSON.box, DOG.box])
    assert detections.confidence is not None and detections.confidence.tolist() == pytest.approx([0.91, 0.5])
    assert detections.class_id is not None and detections.class_id.tolist() == [0, 16]  # as COCO counts them
    assert detections.tracker_id is not None and detections.tracker_id.tolist() == [17, 18]
    assert list(detections["class_name"]) == ["person", "dog"]


def test_supervision_works_with_them() -> None:
    supervision = pytest.importorskip("supervision", reason="supervision is missing")
    detections = to_detections(frame("door", 0, PERSON, DOG))
    (tall,) = detections[detections.box_area > 10_000].tracker_id
    assert tall == 17
    picture = np.zeros((1080, 1920, 3), np.uint8)
    assert supervision.BoxAnnotator().annotate(picture, detections).any()


def test_a_frame_without_objects_has_no_detections() -> None:
    pytest.importorskip("supervision", reason="supervision is missing")
    assert len(to_detections(frame("door"))) == 0


def test_frames_become_a_coco_data_set_that_coco_tools_read(tmp_path: Path) -> None:
    faster_coco_eval = pytest.importorskip("faster_coco_eval", reason="faster-coco-eval is missing")
    frames = [frame("door", 3, PERSON), frame("door", 4), frame("door", 5, DOG, PERSON)]
    (tmp_path / "seen.json").write_text(json.dumps(to_coco(frames)))
    coco = faster_coco_eval.COCO(str(tmp_path / "seen.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [
        "door/3.jpg",
        "door/4.jpg",
        "door/5.jpg",
    ]
    (dog,) = coco.loadAnns(coco.getAnnIds(catIds=coco.getCatIds(catNms=["dog"])))
    assert (dog["image_id"], dog["bbox"], dog["area"], dog["track_id"]) == (3, [10.0, 20.0, 30.0, 60.0], 1800.0, 18)
    assert len(coco.getAnnIds(catIds=coco.getCatIds(catNms=["person"]))) == 2


def test_labels_of_another_model_are_named() -> None:
    with pytest.raises(ConfigError, match="labels has no 'dog', but must have every label of the messages"):
        to_coco([frame("door", 0, DOG)], labels=("person",))
    coco = to_coco([frame("door", 0, DOG)], labels=("cat", "dog"))
    assert coco["annotations"][0]["category_id"] == 2
