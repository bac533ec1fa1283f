"""Outputs of the faces' head -> faces in source pixels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import numpy as np

from engines.arrays import Array, Float
from engines.boxes import Letterboxes
from engines.nms import nms
from engines.rows import in_pictures, likely
from engines.scores import calibrated, wanted_faces
from engines.spec import Thresholds

MAX_ROWS: Final = 100  # of a picture that the frame entry gives


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces of one frame, best first."""

    boxes: Float  # (M, 4) xyxy, source pixels, inside the picture
    scores: Float  # (M,) in [0, 1]
    landmarks: Float  # (M, 5, 2) source pixels: image-left eye, image-right eye, nose, left and right mouth corner


NO_FACES = Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def decode(outputs: Mapping[str, Array], places: Letterboxes, thresholds: Thresholds) -> Iterable[Faces]:
    """The faces of each picture; see :func:`engines.decode.decode`."""
    wanted = wanted_faces(thresholds)
    rows, pictures, scores = likely(outputs["face_scores"], wanted.least)
    if wanted.by_label is not None:
        scores = calibrated(thresholds.face_curve, scores)
        (good,) = (scores >= wanted.by_label[0]).nonzero()
        rows, pictures, scores = rows[good], pictures[good], scores[good]
    if not len(rows):
        return repeat(NO_FACES)
    boxes = outputs["face_boxes"].reshape(-1, 4).take(rows, 0).astype(np.float32, copy=False)
    kept = nms(boxes, scores, thresholds.face_iou, None, pictures if places.count > 1 else None)
    mapped, kept, parts = in_pictures(boxes, kept, pictures, places)
    scores = scores.take(kept)
    raw = outputs["face_landmarks"].reshape(-1, 5, 2).take(rows.take(kept), 0).astype(np.float32, copy=False)
    landmarks = places.to_source(raw, pictures if places.alike else pictures.take(kept))
    return (Faces(mapped[part], scores[part], landmarks[part]) for part in parts)
