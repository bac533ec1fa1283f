import json
from pathlib import Path

import numpy as np
import pytest

from engines.alignment import TEMPLATE
from engines.decode import Faces
from engines.errors import DataError
from engines.evaluation.faces import landmark_error, score_faces
from engines.evaluation.runner import Runner
from tests.engines.evaluation.colours import write_faces

BOX = np.array([0, 0, 112, 112], np.float32)
NOBODY = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def faces(*boxes: tuple[float, float, float, float], shift: float = 0.0) -> Faces:
    landmarks = np.stack([TEMPLATE + np.array([shift, 0.0])] * len(boxes)).astype(np.float32)
    return Faces(np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32), landmarks)


def test_faces_found_where_they_are_and_one_that_is_not_there(runner: Runner, data: Path) -> None:
    scores = score_faces(runner, data)
    assert scores.ap50 == pytest.approx(1.0)
    assert scores.nme is not None and scores.nme < 0.03
    assert (scores.pictures, scores.boxes) == (2, 2)
    assert (scores.nme_pictures, scores.nme_faces, scores.nme_missed) == (3, 2, 1)


def test_the_error_is_a_share_of_the_distance_between_the_eyes() -> None:
    eyes = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
    assert landmark_error(BOX, TEMPLATE, faces((0, 0, 112, 112))) == pytest.approx(0.0, abs=1e-6)
    assert landmark_error(BOX, TEMPLATE, faces((0, 0, 112, 112), shift=0.1 * eyes)) == pytest.approx(0.1, rel=1e-4)


def test_one_point_off_counts_a_fifth() -> None:
    found = faces((0, 0, 112, 112))
    found.landmarks[0, 2, 1] += np.linalg.norm(TEMPLATE[1] - TEMPLATE[0])
    assert landmark_error(BOX, TEMPLATE, found) == pytest.approx(0.2, rel=1e-4)


def test_the_face_that_overlaps_most_is_taken() -> None:
    found = faces((10, 0, 122, 112), (0, 0, 112, 112), (20, 0, 132, 112))
    found.landmarks[[0, 2]] += 50
    assert landmark_error(BOX, TEMPLATE, found) == pytest.approx(0.0, abs=1e-6)


def test_a_face_elsewhere_is_a_miss() -> None:
    assert landmark_error(BOX, TEMPLATE, faces((60, 0, 172, 112))) is None


def test_no_face_is_a_miss() -> None:
    assert landmark_error(BOX, TEMPLATE, NOBODY) is None


@pytest.mark.parametrize(("case", "keep"), [("two faces in a picture", 3), ("a picture without a face", 1)])
def test_landmark_pictures_have_one_face_each(runner: Runner, tmp_path: Path, case: str, keep: int) -> None:
    write_faces(tmp_path)
    path = tmp_path / "face_landmarks/annotations/landmarks_val.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][:1] * keep
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="exactly one annotated face"):
        score_faces(runner, tmp_path)


def test_a_face_with_too_few_keypoints_is_named(runner: Runner, tmp_path: Path) -> None:
    write_faces(tmp_path)
    path = tmp_path / "face_landmarks/annotations/landmarks_val.json"
    content = json.loads(path.read_text())
    content["annotations"][1]["keypoints"] = [1, 2, 2]
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match="annotation 2 must have 5 keypoints"):
        score_faces(runner, tmp_path)
