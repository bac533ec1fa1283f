"""Faces: AP50 on ``face_detection``, landmark error on ``face_landmarks``."""

from pathlib import Path

import msgspec
import numpy as np

from engines.boxes import Float, iou_matrix
from engines.decode import Faces
from engines.errors import DataError
from engines.evaluation.coco import MAX_DETECTIONS, BoxDetection, average_precision, detections_of, mean_of
from engines.evaluation.data import CocoBox, CocoSet, Skipped, read_coco
from engines.evaluation.runner import LOW_SCORE, Runner
from engines.spec import Thresholds

MATCH_IOU = 0.5
POINTS = 5


class FaceScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well faces and their landmarks are found; None where the data has nothing to find."""

    ap: float | None
    ap50: float | None
    pictures: int
    boxes: int
    score_threshold: float  # detections below it were not looked at for the average precision
    max_detections: int  # per picture
    nms_iou: float
    nme: float | None  # mean over the faces that were found
    nme_faces: int  # that count in it
    nme_missed: int  # faces that were not found
    nme_pictures: int
    nme_score_threshold: float  # the model's own: landmarks that the pipeline would use
    nme_match_iou: float
    skipped: list[str]


def score_faces(runner: Runner, data: Path, limit: int | None = None) -> FaceScores:
    """Score the model's faces; ``limit`` looks at that many pictures of each set only.

    Raises:
        DataError: the data is missing or too broken.
    """
    skipped = Skipped()
    truth, detections = find_faces(runner, data, runner.curve_thresholds, skipped, limit)
    scores = average_precision(truth, detections)
    errors = _landmark_errors(runner, data, skipped, limit)
    found = [error for error in errors if error is not None]
    return FaceScores(
        ap=mean_of(scores.ap),
        ap50=mean_of(scores.ap50),
        pictures=len(truth.pictures),
        boxes=sum(not box.ignored for box in truth.boxes),
        score_threshold=LOW_SCORE,
        max_detections=MAX_DETECTIONS,
        nms_iou=runner.curve_thresholds.face_iou,
        nme=float(np.mean(found)) if found else None,
        nme_faces=len(found),
        nme_missed=len(errors) - len(found),
        nme_pictures=len(errors),
        nme_score_threshold=runner.model.spec.thresholds.face_score,
        nme_match_iou=MATCH_IOU,
        skipped=skipped.rows,
    )


def find_faces(
    runner: Runner, data: Path, thresholds: Thresholds, skipped: Skipped, limit: int | None = None
) -> tuple[CocoSet, list[BoxDetection]]:
    """The annotated pictures that could be read, and the faces that the model finds in them."""
    truth = read_coco(data, "face_detection", "instances_val.json", skipped, limit)
    if len(truth.categories) != 1:
        raise DataError(f"face_detection: has {len(truth.categories)} categories, one for faces is expected")
    (category,) = truth.categories
    ids = {path: key for key, path in truth.pictures.items()}
    detections: list[BoxDetection] = []
    seen = []
    for picture in runner.see("faces", list(ids), thresholds, skipped):
        key, faces = ids[picture.path], picture.detections.faces
        seen.append(key)
        detections += detections_of(key, faces.boxes, faces.scores, [category] * len(faces.scores))
    return truth.of(seen), detections


def _landmark_errors(runner: Runner, data: Path, skipped: Skipped, limit: int | None) -> list[float | None]:
    truth = read_coco(data, "face_landmarks", "landmarks_val.json", skipped, limit)
    faces = _one_face_each(truth)
    errors = []
    for picture in runner.see("face landmarks", list(faces), runner.model.spec.thresholds, skipped):
        face = faces[picture.path]
        errors.append(landmark_error(np.array(face.xyxy, np.float32), _points(face), picture.detections.faces))
    return errors


def _one_face_each(truth: CocoSet) -> dict[Path, CocoBox]:
    faces = {truth.pictures[box.image_id]: box for box in truth.boxes}
    if len(faces) != len(truth.boxes) or len(faces) != len(truth.pictures):
        raise DataError("face_landmarks: must have exactly one annotated face in every picture")
    return faces


def _points(face: CocoBox) -> Float:
    if len(face.keypoints) != 3 * POINTS:
        raise DataError(f"face_landmarks: annotation {face.id} must have {POINTS} keypoints of x, y, visibility")
    return np.array(face.keypoints, np.float32).reshape(POINTS, 3)[:, :2]


def landmark_error(box: Float, points: Float, found: Faces) -> float | None:
    """Normalised mean error of one face's landmarks.

    The mean distance of the five points from the true ones, divided by the true distance between the centres of the
    eyes (the normalisation of Jesorsky et al., "Robust Face Detection Using the Hausdorff Distance", 2001). The face
    is the one that overlaps the true box most.

    Args:
        box: (4,) true box, xyxy.
        points: (5, 2) true points, image-left eye and image-right eye first; same pixels as ``box`` and ``found``.
        found: the detected faces.

    Returns:
        The error as a share of the eye distance, or None when no face overlaps the box with an IoU of 0.5.
    """
    if not len(found.boxes):
        return None
    overlaps = iou_matrix(box[None], found.boxes)[0]
    best = int(overlaps.argmax())
    if overlaps[best] < MATCH_IOU:
        return None
    eyes = float(np.linalg.norm(points[1] - points[0]))
    return float(np.linalg.norm(found.landmarks[best] - points, axis=1).mean()) / eyes
