"""Faces: average precision, and the error of their landmarks."""

from dataclasses import dataclass

import msgspec

from engines.data.coco import CocoSet
from engines.data.reading import SkippedRows
from engines.evaluation.coco import BoxDetection, detections_of
from engines.evaluation.detection import BoxEvidence, BoxScores, score_boxes
from engines.evaluation.parts import CardRow
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import FACE, Truth
from engines.spec import Thresholds
from engines.tasks.faces.landmarks import (
    FAILURE,
    MATCH_IOU,
    LandmarkEvidence,
    WorstLandmarks,
    gather_landmarks,
    landmark_intervals,
    worst_landmarks,
)


class FaceScores(BoxScores, frozen=True, kw_only=True):
    """How well faces and their landmarks are found; None where the data has nothing to find."""

    nme: float | None  # mean over the faces that were found, as a share of the distance between the eyes
    nme_box: float | None  # the same as a share of the square root of the true box's area
    nme_failure_rate: float | None  # share of all faces that were not found or have a larger nme than the next figure
    nme_failure: float
    nme_faces: int  # that count in the means
    nme_missed: int  # faces that were not found
    nme_pictures: int
    nme_score_threshold: float  # the model's own: landmarks that the pipeline would use
    nme_match_iou: float
    nme_worst: list[WorstLandmarks]  # the worst first


@dataclass(frozen=True, slots=True)
class FaceEvidence:
    """Faces and landmarks that were found, of which every figure is made."""

    boxes: BoxEvidence
    landmarks: LandmarkEvidence


def gather(runner: ModelRunner, truth: Truth) -> FaceEvidence:
    """Run the model over the pictures with boxes and those with landmarks.

    Raises:
        DataError: too many pictures cannot be read.
    """
    skipped, nothing = SkippedRows(), CocoSet({}, [], FACE)
    found, detections = find_faces(runner, truth.faces or nothing, runner.curve_thresholds, skipped)
    own = runner.model.spec.thresholds
    landmarks = gather_landmarks(runner, truth.landmarks or nothing, skipped)
    rows = [*truth.skipped.get("faces", ()), *skipped.rows]
    return FaceEvidence(BoxEvidence.of(found, detections, own.face_score, own.face_iou, rows), landmarks)


def score(evidence: FaceEvidence) -> FaceScores:
    """The figures of the faces and landmarks that were found."""
    boxes, landmarks = score_boxes(evidence.boxes), evidence.landmarks
    intervals = boxes.intervals | landmark_intervals(landmarks)
    return FaceScores(
        **msgspec.structs.asdict(msgspec.structs.replace(boxes, intervals=intervals)),
        nme=landmarks.nme,
        nme_box=landmarks.nme_box,
        nme_failure_rate=landmarks.failure_rate,
        nme_failure=FAILURE,
        nme_faces=int(landmarks.found.sum()),
        nme_missed=int((~landmarks.found).sum()),
        nme_pictures=landmarks.pictures,
        nme_score_threshold=landmarks.score,
        nme_match_iou=MATCH_IOU,
        nme_worst=worst_landmarks(landmarks),
    )


def find_faces(
    runner: ModelRunner, truth: CocoSet, thresholds: Thresholds, skipped: SkippedRows
) -> tuple[CocoSet, list[BoxDetection]]:
    """The annotated pictures that could be read, and the faces that the model finds in them."""
    (category,) = truth.categories
    ids = {path: key for key, path in truth.pictures.items()}
    detections: list[BoxDetection] = []
    seen = []
    for picture in runner.see("faces", list(ids), thresholds, skipped):
        key, faces = ids[picture.path], picture.detections.faces
        seen.append(key)
        detections += detections_of(key, faces.boxes, faces.scores, [category] * len(faces.scores))
    return truth.of(seen), detections


def rows(scores: FaceScores) -> list[CardRow]:
    """The figures of the model card."""
    return [
        ("faces AP50", scores.ap50, scores.intervals.get("ap50")),
        ("faces AP, boxes below 32 x 32 pixels", scores.ap_small, None),
        ("faces AP, below 96 x 96", scores.ap_medium, None),
        ("faces AP, larger ones", scores.ap_large, None),
        ("faces ECE", scores.ece, None),
        ("landmarks NME (of the distance between the eyes)", scores.nme, scores.intervals.get("nme")),
        ("landmarks NME (of the face box's size)", scores.nme_box, scores.intervals.get("nme_box")),
    ]


def worst(scores: FaceScores) -> dict[str, list[tuple[str, ...]]]:
    """The pictures with the lowest F1, and those with the largest errors of the landmarks."""
    return {
        "faces": [(each.picture,) for each in scores.worst],
        "landmarks": [(each.picture,) for each in scores.nme_worst],
    }
