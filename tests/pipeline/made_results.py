"""Finished frames made by hand, for tests of what comes after the network."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from engines.decode import Detections, Faces, Objects
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Identified, Identity, Observed, Result, Timestamps, Tracked, Tracks

OBJECTS = ("person", "cat")
SCENES = ("street", "cat")
Box = tuple[float, float, float, float]


def make_result(
    pixels: npt.NDArray[np.uint8],
    objects: Sequence[Box] = (),
    faces: Sequence[Box] = (),
    identities: Sequence[Identity | None] | None = None,
    *,
    stream: str = "door",
    seq: int = 0,
    time_s: float = 0.0,
    scene_label: int = -1,
) -> Result:
    """A frame in which every object is a person, tracks are numbered from 1, and faces have five points."""
    height, width = pixels.shape[:2]
    frame = Frame(stream, seq, 0, 0, time_s, Picture((pixels,), width, height))
    object_boxes, face_boxes = (np.array(boxes, dtype=np.float32).reshape(-1, 4) for boxes in (objects, faces))
    shares = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], dtype=np.float32)
    landmarks = face_boxes[:, None, :2] + shares * (face_boxes[:, None, 2:] - face_boxes[:, None, :2])
    object_tracks, face_tracks = _tracks(object_boxes), _tracks(face_boxes)
    detections = Detections(
        Objects(object_boxes, object_tracks.scores, object_tracks.labels),
        Faces(face_boxes, face_tracks.scores, landmarks),
        np.array([0.25, 0.75], dtype=np.float32),
    )
    observed = Observed(frame, detections, Timestamps(0, 0, 0, 0))
    tracked = Tracked.of(observed, object_tracks, face_tracks, np.zeros(len(face_boxes), dtype=np.int64))
    names = tuple(identities) if identities is not None else (None,) * len(face_boxes)
    return Result.finished(
        Identified.with_names(tracked, names),
        object_tracks.labels,
        object_tracks.scores,
        detections.scene,
        scene_label,
        12_000_000,
    )


def _tracks(boxes: npt.NDArray[np.float32]) -> Tracks:
    count = len(boxes)
    return Tracks(
        ids=np.arange(1, count + 1, dtype=np.int64),
        boxes=boxes,
        scores=np.full(count, 0.9, dtype=np.float32),
        labels=np.zeros(count, dtype=np.int32),
        rows=np.arange(count, dtype=np.int64),
        ended=np.empty(0, dtype=np.int64),
    )
