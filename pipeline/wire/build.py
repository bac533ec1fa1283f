"""Results, events and health reports -> messages."""

from collections.abc import Mapping
from itertools import islice

import numpy as np
from msgspec import UNSET

from engines.spec import ModelSpec
from pipeline.frames.clock import timestamp
from pipeline.frames.counters import FrameCounts
from pipeline.frames.events import BestFace, Event
from pipeline.frames.rounding import rounded
from pipeline.frames.types import Health, Result, Timestamps
from pipeline.wire.messages import (
    CropMessage,
    EventMessage,
    FaceMessage,
    FrameMessage,
    HealthMessage,
    IdentityMessage,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
)
from pipeline.wire.serialise import face_messages, with_labels

SCENES_SHOWN = 3
SCENE_SHARE_SHOWN = 0.1  # the second and third scene need this probability


def health_message(report: Health, account: FrameCounts) -> HealthMessage:
    """What happened to a stream, with its books so far."""
    return HealthMessage(
        stream=report.stream,
        at=timestamp(report.at_ns),
        state=report.state,
        cause=report.cause,
        captured=account.captured,
        published=account.published,
        dropped=account.dropped,
        read=report.read,
    )


def event_message(event: Event) -> EventMessage:
    """The message of an event: times of day with milliseconds, all else as it is."""
    face, crop, last_ns = event.best_face, event.best_crop, event.last_ns
    if last_ns is not None and event.first_ns is not None and last_ns < event.first_ns:  # the clock was set back
        last_ns = event.first_ns + round((event.duration_s or 0.0) * 1e9)
    return EventMessage(
        stream=event.stream,
        seq=event.seq,
        captured_at=timestamp(event.at_ns),
        event=event.event,
        kind=event.kind,
        track=event.track,
        label=event.label,
        previous=event.previous,
        score=event.score,
        box=event.box,
        best_face=None if face is None else _best_face(face),
        first_seen=None if event.first_ns is None else timestamp(event.first_ns),
        last_seen=None if last_ns is None else timestamp(last_ns),
        duration_s=event.duration_s,
        best_score=event.best_score,
        path=event.path,
        best_crop=None if crop is None else CropMessage(timestamp(crop.at_ns), crop.box, crop.jpeg),
        cause=event.cause,
        name=event.name,
        direction=event.direction,
        counts=event.counts,
    )


def _best_face(face: BestFace) -> FaceMessage:
    identity = None if face.identity is None else IdentityMessage(face.identity.name, face.identity.score)
    message = FaceMessage(face.track, face.object, face.score, face.box, face.landmarks, identity)
    return with_labels(message, face.labels)


def to_message(result: Result, spec: ModelSpec, dropped: Mapping[str, int]) -> FrameMessage:
    """The message of a finished frame: pixels to 1 decimal, scores to 3, times to 0.1 ms."""
    frame = result.frame
    objects, faces = _seen(result, spec.objects)
    return FrameMessage(
        stream=frame.stream,
        seq=frame.seq,
        captured_at=timestamp(frame.captured_ns),
        size=(frame.picture.width, frame.picture.height),
        objects=objects,
        faces=faces,
        scene=_scene(result, spec),
        timings_ms=_timings(result),
        dropped=dict(dropped),
        carried=result.carried or UNSET,
        light=UNSET if result.light is None else result.light,
    )


def _seen(result: Result, labels: tuple[str, ...]) -> tuple[tuple[ObjectMessage, ...], tuple[FaceMessage, ...]]:
    """The objects and faces; all pixels are rounded together, and so are all scores."""
    objects, faces = result.objects, result.faces
    landmarks = result.detections.faces.landmarks.take(faces.rows, 0)
    pixels = iter(rounded(np.concatenate([objects.boxes, faces.boxes, landmarks], axis=None), 1).tolist())
    scores = iter(rounded(np.concatenate([result.label_scores, faces.scores]), 3).tolist())
    boxes = zip(pixels, pixels, pixels, pixels, strict=False)
    # The numbers of tracks come first: where they end, nothing more is taken of what comes after.
    columns = objects.ids.tolist(), map(labels.__getitem__, result.labels.tolist()), scores, boxes
    told = tuple(map(ObjectMessage, *columns))
    face_boxes = list(islice(boxes, len(faces.ids)))
    points = zip(*[zip(pixels, pixels, strict=False)] * landmarks.shape[1], strict=False)  # so many at a time
    tracks, owners = faces.ids.tolist(), (person or None for person in result.face_objects.tolist())
    return told, face_messages(tracks, owners, scores, face_boxes, points, result.identities, result.face_labels)


def _scene(result: Result, spec: ModelSpec) -> tuple[SceneMessage, ...]:
    """The smoothed scene first, then what else is likely; nothing while there is no smoothed scene."""
    if result.scene_label < 0:
        return ()
    shares: list[float] = result.scene.tolist()
    likely = [row for row, share in enumerate(shares) if share >= SCENE_SHARE_SHOWN and row != result.scene_label]
    rows = [result.scene_label, *sorted(likely, key=lambda row: -shares[row])][:SCENES_SHOWN]
    labels, wheres = spec.scene_labels, [group.where for group in spec.scene_groups]
    return tuple(SceneMessage(labels[row], round(shares[row], 3), (wheres and wheres[row]) or UNSET) for row in rows)


def _timings(result: Result) -> TimingsMessage:
    """Queue, infer and post follow each other and add up to the total; queue holds preprocessing."""
    timestamps: Timestamps = result.timestamps
    began = result.frame.clock_ns
    return TimingsMessage(
        queue=_milliseconds(timestamps.infer_started_ns - began),
        infer=_milliseconds(timestamps.infer_ended_ns - timestamps.infer_started_ns),
        post=_milliseconds(result.finished_ns - timestamps.infer_ended_ns),
        total=_milliseconds(result.finished_ns - began),
    )


def _milliseconds(ns: int) -> float:
    return round(ns / 1e6, 1)
