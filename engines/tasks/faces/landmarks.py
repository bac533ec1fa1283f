"""Landmarks: the error of five points."""

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from engines.arrays import Double, Flags, Float, Rows
from engines.boxes import iou_matrix
from engines.data.coco import CocoBox, CocoSet
from engines.data.reading import SkippedRows
from engines.decode import Faces
from engines.evaluation.bootstrap import Interval, percentile_interval, resample, weighted_mean
from engines.evaluation.detection import WORST
from engines.evaluation.runner import ModelRunner

MATCH_IOU = 0.5
FAILURE = 0.1  # of the distance between the eyes; a face with a larger error has failed


@dataclass(frozen=True, slots=True)
class LandmarkFace:
    """One true face and the landmarks that were found for it."""

    picture: Path
    box: Float  # (4,) true, xyxy in pixels
    points: Float  # (5, 2) true, image-left and image-right eye first
    found: Float | None  # (5, 2) or None where no face overlaps the box

    @property
    def distance(self) -> float:
        """Mean distance of the points in pixels; not a number where the face was not found."""
        if self.found is None:
            return float("nan")
        return float(np.linalg.norm(self.found - self.points, axis=1).mean())

    @property
    def eyes(self) -> float:
        """True distance between the centres of the eyes, in pixels."""
        return float(np.linalg.norm(self.points[1] - self.points[0]))

    @property
    def size(self) -> float:
        """Square root of the area of the true box, in pixels."""
        return float(np.sqrt(np.prod(self.box[2:] - self.box[:2])))


@dataclass(frozen=True)
class LandmarkEvidence:
    """All F faces, and the normalised mean error of each."""

    faces: list[LandmarkFace]
    score: float  # the threshold of the faces that were looked at

    @cached_property
    def errors(self) -> Double:
        """(F,) as a share of the distance between the eyes; not a number where the face was not found.

        The normalisation of Jesorsky et al., "Robust Face Detection Using the Hausdorff Distance", 2001.
        """
        return np.array([face.distance / face.eyes for face in self.faces])

    @cached_property
    def box_errors(self) -> Double:
        """(F,) as a share of the box's size, which a turned head shrinks less than the distance between its eyes.

        Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D Face Alignment problem?", ICCV 2017.
        """
        return np.array([face.distance / face.size for face in self.faces])

    @property
    def pictures(self) -> int:
        """How many the faces are in."""
        return len({face.picture for face in self.faces})

    @cached_property
    def rows(self) -> Rows:
        """(F,) the picture that each face is in, counted as they come."""
        numbers = {path: row for row, path in enumerate(dict.fromkeys(face.picture for face in self.faces))}
        return np.array([numbers[face.picture] for face in self.faces], np.int64)

    @property
    def found(self) -> Flags:
        """(F,) whether the face was found."""
        return np.isfinite(self.errors)

    @property
    def failed(self) -> Flags:
        """(F,) whether the error is larger than :data:`FAILURE`, or the face was not found."""
        return ~(self.errors <= FAILURE)

    @property
    def failure_rate(self) -> float | None:
        """Share of the faces that failed; None where there are no faces."""
        return float(self.failed.mean()) if self.faces else None

    @property
    def nme(self) -> float | None:
        """Mean error of the faces that were found, as a share of the distance between the eyes."""
        return float(np.nanmean(self.errors)) if self.found.any() else None

    @property
    def nme_box(self) -> float | None:
        """Mean error of the faces that were found, as a share of the box's size."""
        return float(np.nanmean(self.box_errors)) if self.found.any() else None


class WorstLandmarks(msgspec.Struct, frozen=True, kw_only=True):
    """One of the faces that were found with the largest error."""

    picture: str
    nme: float
    nme_box: float


def gather_landmarks(runner: ModelRunner, truth: CocoSet, skipped: SkippedRows) -> LandmarkEvidence:
    """Find every face that has five points, at the model's own thresholds.

    Raises:
        DataError: too many pictures cannot be read.
    """
    wanted: dict[Path, list[CocoBox]] = defaultdict(list)
    for face in truth.boxes:
        if face.points5 is not None and not face.ignored:
            wanted[truth.pictures[face.image_id]].append(face)
    thresholds = runner.model.spec.thresholds
    faces = []
    for picture in runner.see("face landmarks", list(wanted), thresholds, skipped):
        for face in wanted[picture.path]:
            box, points = np.array(face.xyxy, np.float32), np.array(face.points5, np.float32)
            faces.append(LandmarkFace(picture.path, box, points, landmarks_of(box, picture.detections.faces)))
    return LandmarkEvidence(faces, thresholds.face_score)


def landmarks_of(box: Float, found: Faces) -> Float | None:
    """Landmarks (5, 2) of the face that overlaps the true ``box`` (4,) xyxy most; None when none does by IoU 0.5."""
    if not len(found.boxes):
        return None
    overlaps = iou_matrix(box[None], found.boxes)[0]
    best = int(overlaps.argmax())
    return found.landmarks[best] if overlaps[best] >= MATCH_IOU else None


def landmark_intervals(evidence: LandmarkEvidence) -> dict[str, Interval | None]:
    """Intervals of the landmarks' figures, by pictures."""
    weights = np.take(resample(evidence.pictures), evidence.rows, axis=1)
    return {
        "nme": percentile_interval(weighted_mean(evidence.errors, weights)),
        "nme_box": percentile_interval(weighted_mean(evidence.box_errors, weights)),
        "nme_failure_rate": percentile_interval(weighted_mean(evidence.failed, weights)),
    }


def worst_rows(evidence: LandmarkEvidence) -> list[int]:
    """Which of the faces those are, the worst first."""
    order: Rows = np.argsort(-evidence.errors)  # not a number sorts last
    return [int(row) for row in order[: min(WORST, int(evidence.found.sum()))]]


def worst_landmarks(evidence: LandmarkEvidence) -> list[WorstLandmarks]:
    """The faces that were found with the largest error as a share of the distance between the eyes."""
    return [
        WorstLandmarks(
            picture=str(evidence.faces[row].picture),
            nme=float(evidence.errors[row]),
            nme_box=float(evidence.box_errors[row]),
        )
        for row in worst_rows(evidence)
    ]
