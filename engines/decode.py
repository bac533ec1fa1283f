"""Raw outputs of the frame entry -> detections in source pixels."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.boxes import Letterbox, clip_boxes
from engines.nms import Rows, Suppression, nms, soft_nms
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
    outputs: Mapping[str, npt.NDArray[np.generic]],
    row: int,
    box: Letterbox,
    thresholds: Thresholds,
    suppression: Suppression = "class-aware",
) -> Detections:
    """Turn one row of the frame entry's outputs into detections.

    Scores below their threshold go, then duplicates; what is left is mapped to source pixels and clipped to the
    picture, and boxes that have no area there are removed. Of a task that the model does not have, nothing is seen: no
    rows, no scenes.

    Args:
        outputs: batch first: ``object_boxes`` (B, K, 4) xyxy input pixels, ``object_scores`` (B, K),
            ``object_labels`` (B, K) whole numbers, ``face_boxes`` (B, M, 4), ``face_scores`` (B, M),
            ``face_landmarks`` (B, M, 5, 2) input pixels, ``scene`` (B, C) probabilities.
        row: which picture of the batch.
        box: how that picture was letterboxed.
        thresholds: score and overlap thresholds; evaluation passes lower scores than the pipeline.
        suppression: how objects suppress each other; faces are of one class, and greedily suppressed.
    """
    return Detections(
        objects=_objects(outputs, row, box, thresholds, suppression) if "object_scores" in outputs else NO_OBJECTS,
        faces=_faces(outputs, row, box, thresholds) if "face_scores" in outputs else NO_FACES,
        scene=outputs["scene"][row].astype(np.float32) if "scene" in outputs else NO_SCENE,
    )


def _objects(
    outputs: Mapping[str, npt.NDArray[np.generic]],
    row: int,
    box: Letterbox,
    thresholds: Thresholds,
    suppression: Suppression,
) -> Objects:
    rows, scores = _likely(outputs["object_scores"][row], thresholds.object_score)
    if not len(rows):
        return NO_OBJECTS
    boxes = outputs["object_boxes"][row][rows].astype(np.float32, copy=False)
    labels = outputs["object_labels"][row][rows].astype(np.int32, copy=False)
    if suppression == "soft":
        kept, faded = soft_nms(boxes, scores, thresholds.object_score, labels)
        scores[kept] = faded
    else:
        kept = nms(boxes, scores, thresholds.object_iou, labels if suppression == "class-aware" else None)
    mapped, kept = _to_picture(boxes, kept, box)
    return Objects(mapped, scores[kept], labels[kept])


def _faces(outputs: Mapping[str, npt.NDArray[np.generic]], row: int, box: Letterbox, thresholds: Thresholds) -> Faces:
    rows, scores = _likely(outputs["face_scores"][row], thresholds.face_score)
    if not len(rows):
        return NO_FACES
    boxes = outputs["face_boxes"][row][rows].astype(np.float32, copy=False)
    mapped, kept = _to_picture(boxes, nms(boxes, scores, thresholds.face_iou), box)
    landmarks = outputs["face_landmarks"][row][rows[kept]].astype(np.float32, copy=False)
    return Faces(mapped, scores[kept], box.to_source(landmarks))


def _likely(scores: npt.NDArray[np.generic], least: float) -> tuple[Rows, Float]:
    """The rows that score at least so much, and their scores."""
    known = scores.astype(np.float32, copy=False)
    (rows,) = (known >= least).nonzero()
    return rows, known[rows]


def _to_picture(boxes: Float, kept: Rows, box: Letterbox) -> tuple[Float, Rows]:
    """Those of the ``kept`` boxes that have an area inside the picture: in source pixels, and which they are."""
    clipped = clip_boxes(box.to_source(boxes[kept]), box.source)
    seen = (clipped[:, 0] < clipped[:, 2]) & (clipped[:, 1] < clipped[:, 3])
    return clipped[seen], kept[seen]
