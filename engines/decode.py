"""Raw outputs of the frame entry -> detections in source pixels."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, repeat
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.arrays import Float, Rows
from engines.boxes import Letterbox, Letterboxes
from engines.nms import Suppression, nms, soft_nms
from engines.spec import Thresholds

TOP: Final = 300  # rows of a picture that are looked at: as many as the frame entry gives


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
    boxes: Sequence[Letterbox],
    thresholds: Thresholds,
    suppression: Suppression = "class-aware",
) -> list[Detections]:
    """Turn the frame entry's outputs of a batch of pictures into the detections of each.

    Scores below their threshold go, then duplicates; what is left is mapped to source pixels and clipped to the
    picture, and boxes that have no area there are removed. Of a task that the model does not have, nothing is seen: no
    rows, no scenes.

    Args:
        outputs: batch first: ``object_boxes`` (B, K, 4) xyxy input pixels, ``object_scores`` (B, K),
            ``object_labels`` (B, K) whole numbers, ``face_boxes`` (B, M, 4), ``face_scores`` (B, M),
            ``face_landmarks`` (B, M, 5, 2) input pixels, ``scene`` (B, C) probabilities. Of each picture, the 300 best
            rows are looked at.
        boxes: (B,) how each picture was letterboxed.
        thresholds: score and overlap thresholds; evaluation passes lower scores than the pipeline.
        suppression: how objects suppress each other; faces are of one class, and greedily suppressed.
    """
    if not len(boxes):
        return []
    # All pictures at once: a NumPy call costs about as much for eight of them as for one.
    places = Letterboxes.of(tuple(boxes))
    objects = _objects(outputs, places, thresholds, suppression) if "object_scores" in outputs else repeat(NO_OBJECTS)
    faces = _faces(outputs, places, thresholds) if "face_scores" in outputs else repeat(NO_FACES)
    scenes = outputs["scene"].astype(np.float32) if "scene" in outputs else repeat(NO_SCENE)
    return [Detections(*each) for each in islice(zip(objects, faces, scenes, strict=False), places.count)]


def _objects(
    outputs: Mapping[str, npt.NDArray[np.generic]],
    places: Letterboxes,
    thresholds: Thresholds,
    suppression: Suppression,
) -> Iterable[Objects]:
    rows, pictures, scores = _likely(outputs["object_scores"], thresholds.object_score)
    if not len(rows):
        return repeat(NO_OBJECTS)
    boxes = outputs["object_boxes"].reshape(-1, 4)[rows].astype(np.float32, copy=False)
    labels = outputs["object_labels"].reshape(-1)[rows].astype(np.int32, copy=False)
    if suppression == "soft":
        kept, scores = _faded(boxes, scores, labels, pictures, thresholds.object_score)
    else:
        apart = None if suppression == "class-agnostic" else labels
        kept = nms(boxes, scores, thresholds.object_iou, _apart(pictures, places, apart))
    mapped, kept, parts = _in_pictures(boxes, kept, pictures, places)
    scores, labels = scores[kept], labels[kept]
    return (Objects(mapped[part], scores[part], labels[part]) for part in parts)


def _faces(
    outputs: Mapping[str, npt.NDArray[np.generic]], places: Letterboxes, thresholds: Thresholds
) -> Iterable[Faces]:
    rows, pictures, scores = _likely(outputs["face_scores"], thresholds.face_score)
    if not len(rows):
        return repeat(NO_FACES)
    boxes = outputs["face_boxes"].reshape(-1, 4)[rows].astype(np.float32, copy=False)
    kept = nms(boxes, scores, thresholds.face_iou, _apart(pictures, places))
    mapped, kept, parts = _in_pictures(boxes, kept, pictures, places)
    pictures, scores = pictures[kept], scores[kept]
    raw = outputs["face_landmarks"].reshape(-1, 5, 2)[rows[kept]].astype(np.float32, copy=False)
    landmarks = places.to_source(raw, pictures)
    return (Faces(mapped[part], scores[part], landmarks[part]) for part in parts)


def _faded(
    boxes: Float, scores: Float, labels: npt.NDArray[np.int32], pictures: Rows, least: float
) -> tuple[Rows, Float]:
    """Soft suppression within each picture: the rows that are left, and all scores after it."""
    faded, left = scores.copy(), []
    for own in np.split(np.arange(len(pictures)), np.flatnonzero(np.diff(pictures)) + 1):
        kept, remains = soft_nms(boxes[own], scores[own], least, labels[own])
        left.append(own[kept])
        faded[left[-1]] = remains
    return np.concatenate(left), faded


def _likely(scores: npt.NDArray[np.generic], least: float) -> tuple[Rows, Rows, Float]:
    """What scores at least so much: (N,) its row in all pictures, one after the other, its picture, and its score."""
    known = scores.astype(np.float32, copy=False)
    sure = known >= least
    if known.shape[1] > TOP:
        np.put_along_axis(sure, np.argsort(-known, axis=1, kind="stable")[:, TOP:], values=False, axis=1)
    (rows,) = sure.reshape(-1).nonzero()
    return rows, rows // known.shape[1], known.reshape(-1)[rows]


def _apart(
    pictures: Rows, places: Letterboxes, labels: npt.NDArray[np.int32] | None = None
) -> npt.NDArray[np.integer] | None:
    """What keeps boxes from suppressing each other: that they are in different pictures, or of different classes."""
    if places.count == 1:
        return labels
    return pictures if labels is None else labels * places.count + pictures


def _in_pictures(boxes: Float, kept: Rows, pictures: Rows, places: Letterboxes) -> tuple[Float, Rows, list[slice]]:
    """Those of the ``kept`` boxes, best first, that have an area inside their picture.

    Returns:
        The boxes in source pixels, picture by picture; which they are; and which part of them each picture has.
    """
    if places.count > 1:
        kept = kept[np.argsort(pictures[kept], kind="stable")]
    clipped = places.clip(places.to_source(boxes[kept], pictures[kept]), pictures[kept])
    seen = (clipped[:, 0] < clipped[:, 2]) & (clipped[:, 1] < clipped[:, 3])
    clipped, kept = clipped[seen], kept[seen]
    if places.count == 1:
        return clipped, kept, [slice(None)]
    ends = np.searchsorted(pictures[kept], np.arange(places.count + 1)).tolist()
    return clipped, kept, [slice(start, end) for start, end in pairwise(ends)]
