"""Raw outputs of the frame entry -> detections in source pixels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.boxes import Letterbox, clip_boxes, filled
from engines.nms import nms
from engines.spec import Thresholds

Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Objects:
    """Objects of one frame, best first."""

    boxes: Float  # (N, 4) xyxy, source pixels, inside the picture
    scores: Float  # (N,) in [0, 1]
    labels: npt.NDArray[np.int32]  # (N,) index into ModelSpec.objects


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one frame, best first."""

    boxes: Float  # (M, 4) xyxy, source pixels, inside the picture
    scores: Float  # (M,) in [0, 1]
    landmarks: Float  # (M, 5, 2) source pixels: image-left eye, image-right eye, nose, left and right mouth corner


@dataclass(frozen=True, slots=True)
class Detections:
    """All that the frame entry says of one frame."""

    objects: Objects
    faces: Faces
    scene: Float  # (C,) probabilities over ModelSpec.scenes


NO_OBJECTS = Objects(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
NO_FACES = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
NO_SCENE: Float = np.zeros(0, np.float32)


def decode(
    outputs: Mapping[str, npt.NDArray[np.generic]], row: int, box: Letterbox, thresholds: Thresholds
) -> Detections:
    """Turn one row of the frame entry's outputs into detections.

    Scores below their threshold go, then class-aware NMS for objects and plain NMS for faces; what is left is mapped
    to source pixels and clipped to the picture, and boxes that have no area there are removed. Of a task that the model
    does not have, nothing is seen: no rows, no scenes.

    Args:
        outputs: batch first: ``object_boxes`` (B, K, 4) xyxy input pixels, ``object_scores`` (B, K),
            ``object_labels`` (B, K) whole numbers, ``face_boxes`` (B, M, 4), ``face_scores`` (B, M),
            ``face_landmarks`` (B, M, 5, 2) input pixels, ``scene`` (B, C) probabilities.
        row: which picture of the batch.
        box: how that picture was letterboxed.
        thresholds: score and overlap thresholds; evaluation passes lower scores than the pipeline.
    """
    return Detections(
        objects=_objects(outputs, row, box, thresholds) if "object_scores" in outputs else NO_OBJECTS,
        faces=_faces(outputs, row, box, thresholds) if "face_scores" in outputs else NO_FACES,
        scene=outputs["scene"][row].astype(np.float32) if "scene" in outputs else NO_SCENE,
    )


def _objects(
    outputs: Mapping[str, npt.NDArray[np.generic]], row: int, box: Letterbox, thresholds: Thresholds
) -> Objects:
    boxes = outputs["object_boxes"][row].astype(np.float32)
    scores = outputs["object_scores"][row].astype(np.float32)
    labels = outputs["object_labels"][row].astype(np.int32)
    rows = np.flatnonzero(scores >= thresholds.object_score)
    rows = rows[nms(boxes[rows], scores[rows], thresholds.object_iou, labels[rows])]
    mapped, seen = _to_picture(boxes[rows], box)
    rows = rows[seen]
    return Objects(mapped, scores[rows], labels[rows])


def _faces(outputs: Mapping[str, npt.NDArray[np.generic]], row: int, box: Letterbox, thresholds: Thresholds) -> Faces:
    boxes = outputs["face_boxes"][row].astype(np.float32)
    scores = outputs["face_scores"][row].astype(np.float32)
    landmarks = outputs["face_landmarks"][row].astype(np.float32)
    rows = np.flatnonzero(scores >= thresholds.face_score)
    rows = rows[nms(boxes[rows], scores[rows], thresholds.face_iou)]
    mapped, seen = _to_picture(boxes[rows], box)
    rows = rows[seen]
    return Faces(mapped, scores[rows], box.to_source(landmarks[rows]))


def _to_picture(boxes: Float, box: Letterbox) -> tuple[Float, npt.NDArray[np.bool_]]:
    """Boxes in source pixels that have an area inside the picture, and which of the given ones they are."""
    clipped = clip_boxes(box.to_source(boxes), box.source)
    seen = filled(clipped)
    return clipped[seen], seen
