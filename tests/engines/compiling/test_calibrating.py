import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from engines.alignment import TEMPLATE
from engines.compiling.calibrating import face_calibration, frame_calibration
from engines.errors import DataError
from engines.pictures import PADDING_GREY
from engines.spec import EntrySpec
from tests.engines.evaluation.colours import paint

ENTRY = EntrySpec("frame.onnx", "", 64, 96, {})
RED = (255, 0, 0)


def paint_all(folder: Path, count: int, size: tuple[int, int] = (40, 40)) -> None:
    for number in range(count):
        paint(folder / f"{number}.png", size, [((0, 0, *size), RED)])


def test_frames_are_letterboxed_and_taken_evenly_from_every_set_that_is_there(tmp_path: Path) -> None:
    paint_all(tmp_path / "detection/images/train", 10)
    paint_all(tmp_path / "classification/imagenette10/train/church", 3)
    (tmp_path / "detection/images/train/notes.txt").write_text("no picture")
    found = frame_calibration(tmp_path, ENTRY, 8)
    assert found.counts == {"detection/images/train": 4, "classification/imagenette10/train": 3}
    assert {each.shape for each in found.pictures} == {(64, 96, 3)} and len(found.pictures) == 7
    assert (found.pictures[0][:, :10] == PADDING_GREY).all() and (found.pictures[0][32, 48] == RED).all()


def test_faces_are_aligned_where_their_points_are_known(tmp_path: Path) -> None:
    faces = tmp_path / "face_recognition"
    paint_all(faces / "train/Ada", 2, (224, 224))
    half = np.full((224, 224, 3), 255, np.uint8)
    half[112:] = 0
    cv2.imwrite(str(faces / "train/Ada/1.png"), half)
    # The face fills the upper, white half.
    points = {"file": "Ada/1.png", "points5": (TEMPLATE * 1.0).tolist()}
    (faces / "ytf_landmarks5_train.json").write_text(json.dumps([points]))
    found = face_calibration(tmp_path, 2)
    assert found.counts == {"face_recognition/train": 2}
    as_cut, aligned = found.pictures
    assert as_cut.shape == aligned.shape == (112, 112, 3)
    assert (as_cut == RED).all() and (aligned[:100] == 255).all()


@pytest.mark.parametrize("entry", ["frame", "face"])
def test_no_training_pictures_at_all(tmp_path: Path, entry: str) -> None:
    with pytest.raises(DataError, match=r"has no training pictures to calibrate on, looked for in \w+/.*train"):
        if entry == "frame":
            frame_calibration(tmp_path, ENTRY, 8)
        else:
            face_calibration(tmp_path, 8)


def test_a_broken_picture_among_many_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "detection/images/train"
    paint_all(folder, 110, (8, 8))
    (folder / "0.png").write_bytes(b"broken")
    assert frame_calibration(tmp_path, ENTRY, 110).counts == {"detection/images/train": 109}


def test_a_broken_picture_among_few_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "detection/images/train"
    paint_all(folder, 3)
    (folder / "0.png").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"detection/images/train: 1 of 3 rows cannot be read"):
        frame_calibration(tmp_path, ENTRY, 3)
