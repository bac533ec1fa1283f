import json
from pathlib import Path

import numpy as np
import pytest

from engines.alignment import TEMPLATE
from engines.data.reading import SkippedRows
from engines.decode import Faces
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import standard_truth
from engines.tasks.faces.landmarks import (
    LandmarkEvidence,
    LandmarkFace,
    gather_landmarks,
    landmark_intervals,
    landmarks_of,
    worst_landmarks,
)
from tests.engines.evaluation.colours import write_faces

BOX = np.array([0, 0, 112, 112], np.float32)
EYES = float(np.linalg.norm(TEMPLATE[1] - TEMPLATE[0]))
NOBODY = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def faces(*boxes: tuple[float, float, float, float]) -> Faces:
    landmarks = np.stack([TEMPLATE] * len(boxes)).astype(np.float32)
    return Faces(np.array(boxes, np.float32), np.full(len(boxes), 0.9, np.float32), landmarks)


def face(shift: float | None, box: np.ndarray = BOX) -> LandmarkFace:
    """A face whose landmarks were all found ``shift`` pixels to the right, or not at all."""
    found = None if shift is None else (TEMPLATE + np.array([shift, 0.0])).astype(np.float32)
    return LandmarkFace(Path(f"{shift}.png"), box, TEMPLATE.astype(np.float32), found)


def test_the_error_is_a_share_of_the_distance_between_the_eyes_and_of_the_size_of_the_box() -> None:
    evidence = LandmarkEvidence([face(0.0), face(5.0), face(5.0, np.array([10, 10, 60, 210], np.float32))], 0.5)
    assert evidence.errors == pytest.approx([0.0, 5 / EYES, 5 / EYES], rel=1e-4, abs=1e-6)
    assert evidence.box_errors == pytest.approx([0.0, 5 / 112, 5 / 100], rel=1e-4, abs=1e-6)


def test_one_point_off_counts_a_fifth() -> None:
    found = TEMPLATE.astype(np.float32)
    found[2, 1] += EYES
    evidence = LandmarkEvidence([LandmarkFace(Path("x.png"), BOX, TEMPLATE.astype(np.float32), found)], 0.5)
    assert evidence.nme == pytest.approx(0.2, rel=1e-4)


def test_a_missed_face_fails_and_is_not_in_the_mean() -> None:
    evidence = LandmarkEvidence([face(0.05 * EYES), face(0.15 * EYES), face(None), face(0.0)], 0.5)
    assert evidence.nme == pytest.approx(0.2 / 3, rel=1e-4)
    assert evidence.failed.tolist() == [False, True, True, False]


def test_no_face_at_all_has_no_mean_and_no_interval_but_fails() -> None:
    evidence = LandmarkEvidence([face(None), face(None)], 0.5)
    assert evidence.nme is None and evidence.nme_box is None
    intervals = landmark_intervals(evidence)
    assert intervals["nme"] is None
    assert intervals["nme_failure_rate"] is not None and intervals["nme_failure_rate"].low == 1.0
    assert worst_landmarks(evidence) == []


def test_a_set_without_pictures_has_no_figures() -> None:
    evidence = LandmarkEvidence([], 0.5)
    assert evidence.nme is evidence.nme_box is evidence.failure_rate is None
    assert set(landmark_intervals(evidence).values()) == {None}


def test_the_worst_come_first_and_missed_faces_are_not_among_them() -> None:
    worst = worst_landmarks(LandmarkEvidence([face(1.0), face(None), face(3.0), face(2.0)], 0.5))
    assert [row.picture for row in worst] == ["3.0.png", "2.0.png", "1.0.png"]


def test_the_face_that_overlaps_most_is_taken() -> None:
    found = faces((10, 0, 122, 112), (0, 0, 112, 112), (20, 0, 132, 112))
    found.landmarks[[0, 2]] += 50
    assert landmarks_of(BOX, found) == pytest.approx(TEMPLATE)


@pytest.mark.parametrize(("case", "found"), [("elsewhere", faces((60, 0, 172, 112))), ("nobody", NOBODY)])
def test_no_face_there_is_a_miss(case: str, found: Faces) -> None:
    assert landmarks_of(BOX, found) is None


def test_a_picture_may_show_several_faces_and_those_without_five_points_do_not_count(
    runner: ModelRunner, tmp_path: Path
) -> None:
    write_faces(tmp_path)
    path = tmp_path / "face_landmarks/annotations/landmarks_val.json"
    content = json.loads(path.read_text())
    known = content["annotations"][0]
    elsewhere = {**known, "id": 11, "bbox": [120, 90, 20, 20]}
    without = {**known, "id": 12, "keypoints": [1, 2, 2]}
    hidden = {**known, "id": 13, "keypoints": [*known["keypoints"][:14], 0]}
    ignored = {**known, "id": 14, "ignore": 1}
    content["annotations"] += [elsewhere, without, hidden, ignored]
    path.write_text(json.dumps(content))
    truth = standard_truth(tmp_path, ["faces"]).landmarks
    assert truth is not None
    evidence = gather_landmarks(runner, truth, SkippedRows())
    assert [face.picture.name for face in evidence.faces] == ["1.png", "1.png", "2.png", "3.png"]
    assert evidence.found.tolist() == [True, False, True, False]
    assert (evidence.pictures, evidence.rows.tolist()) == (3, [0, 0, 1, 2])
