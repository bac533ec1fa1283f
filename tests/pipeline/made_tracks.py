"""Frames made by hand at every step from the network to the identities, for tests of what happens over time."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from engines.decode import Detections, Faces, Objects
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Observed, Timestamps, Tracked, Tracks

Item = TypeVar("Item")
Box = tuple[float, float, float, float]
POINTS = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]], np.float32)  # in a face's box
SIZE = (640, 360)  # width, height


def one_by_one(stage: Callable[..., Iterable[Sequence[Item]]], items: Iterable[object], *state: object) -> list[Item]:
    """What a stage gives for frames that come one a batch."""
    return [each for batch in stage(([item] for item in items), *state) for each in batch]


def boxes_array(boxes: Sequence[Box]) -> np.ndarray:
    return np.array(boxes, np.float32).reshape(-1, 4)


def make_observed(
    time_s: float,
    objects: Sequence[Box] = (),
    faces: Sequence[Box] = (),
    *,
    labels: Sequence[int] | None = None,
    score: float = 0.9,
    scene: Sequence[float] = (0.5, 0.5),
    stream: str = "door",
    pixels: np.ndarray | None = None,
) -> Observed:
    """A frame at ``time_s`` with detections; objects have label 0 unless given."""
    if pixels is None:
        pixels = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    frame = Frame(stream, round(time_s * 100), round(time_s * 1e9), 0, time_s, Picture.from_rgb(pixels))
    object_boxes, face_boxes = boxes_array(objects), boxes_array(faces)
    landmarks = face_boxes[:, None, :2] + POINTS * (face_boxes[:, None, 2:] - face_boxes[:, None, :2])
    detections = Detections(
        Objects(
            object_boxes,
            np.full(len(objects), score, np.float32),
            np.array(labels if labels is not None else [0] * len(objects), np.int32),
        ),
        Faces(face_boxes, np.full(len(faces), score, np.float32), landmarks),
        np.array(scene, np.float32),
    )
    return Observed(frame, detections, Timestamps(0, 0, 0, 0))


def make_tracks(
    ids: Sequence[int], boxes: Sequence[Box], labels: Sequence[int] | None = None, ended: Sequence[int] = ()
) -> Tracks:
    """Tracks whose detections lie in the same order."""
    return Tracks(
        ids=np.array(ids, np.int64),
        boxes=boxes_array(boxes),
        scores=np.full(len(ids), 0.9, np.float32),
        labels=np.array(labels if labels is not None else [0] * len(ids), np.int32),
        rows=np.arange(len(ids), dtype=np.int64),
        ended=np.array(ended, np.int64),
    )


def make_tracked(
    time_s: float,
    objects: dict[int, Box] | None = None,
    faces: dict[int, Box] | None = None,
    *,
    labels: Sequence[int] | None = None,
    score: float = 0.9,
    scene: Sequence[float] = (0.5, 0.5),
    objects_ended: Sequence[int] = (),
    faces_ended: Sequence[int] = (),
    stream: str = "door",
    pixels: np.ndarray | None = None,
) -> Tracked:
    """A frame at ``time_s`` with tracks, id -> box."""
    objects, faces = objects or {}, faces or {}
    observed = make_observed(
        time_s,
        list(objects.values()),
        list(faces.values()),
        labels=labels,
        score=score,
        scene=scene,
        stream=stream,
        pixels=pixels,
    )
    return Tracked.of(
        observed,
        make_tracks(list(objects), list(objects.values()), labels, objects_ended),
        make_tracks(list(faces), list(faces.values()), ended=faces_ended),
        np.zeros(len(faces), np.int64),
    )
