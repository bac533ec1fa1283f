"""Results and health reports -> messages."""

from collections.abc import Mapping

import numpy as np

from engines.spec import ModelSpec
from pipeline.frames.clock import timestamp
from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import Health, Result, Timestamps
from pipeline.wire.messages import FaceMessage, FrameMessage, HealthMessage, ObjectMessage, SceneMessage, TimingsMessage
from pipeline.wire.serialise import face_messages, rounded, tuples

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
    )


def to_message(result: Result, spec: ModelSpec, dropped: Mapping[str, int]) -> FrameMessage:
    """The message of a finished frame: pixels to 1 decimal, scores to 3, times to 0.1 ms."""
    frame = result.frame
    return FrameMessage(
        stream=frame.stream,
        seq=frame.seq,
        captured_at=timestamp(frame.captured_ns),
        size=(frame.picture.width, frame.picture.height),
        objects=_objects(result, spec.objects),
        faces=_faces(result),
        scene=_scene(result, spec.scenes),
        timings_ms=_timings(result),
        dropped=dict(dropped),
    )


def _objects(result: Result, labels: tuple[str, ...]) -> tuple[ObjectMessage, ...]:
    tracks = result.identified.tracked.objects
    columns = (
        tracks.ids.tolist(),
        map(labels.__getitem__, result.labels.tolist()),
        rounded(result.label_scores, 3).tolist(),
        tuples(rounded(tracks.boxes, 1)),
    )
    return tuple(map(ObjectMessage, *columns))


def _faces(result: Result) -> tuple[FaceMessage, ...]:
    tracked = result.identified.tracked
    tracks = tracked.faces
    if not len(tracks.ids):
        return ()
    landmarks = tracked.observed.detections.faces.landmarks[tracks.rows]
    owners = tracked.face_objects.tolist()
    return face_messages(
        tracks.ids.tolist(), owners, tracks.scores, tracks.boxes, landmarks, result.identified.identities
    )


def _scene(result: Result, labels: tuple[str, ...]) -> tuple[SceneMessage, ...]:
    """The smoothed scene first, then what else is likely; nothing while there is no smoothed scene."""
    if result.scene_label < 0:
        return ()
    (likely,) = (result.scene >= SCENE_SHARE_SHOWN).nonzero()
    likely = likely[np.argsort(-result.scene[likely], kind="stable")].tolist()
    rows = [result.scene_label, *(row for row in likely if row != result.scene_label)][:SCENES_SHOWN]
    return tuple(SceneMessage(labels[row], round(float(result.scene[row]), 3)) for row in rows)


def _timings(result: Result) -> TimingsMessage:
    """Queue, infer and post follow each other and add up to the total; queue holds preprocessing."""
    timestamps: Timestamps = result.identified.tracked.observed.timestamps
    began = result.frame.clock_ns
    return TimingsMessage(
        queue=_milliseconds(timestamps.infer_started_ns - began),
        infer=_milliseconds(timestamps.infer_ended_ns - timestamps.infer_started_ns),
        post=_milliseconds(result.finished_ns - timestamps.infer_ended_ns),
        total=_milliseconds(result.finished_ns - began),
    )


def _milliseconds(ns: int) -> float:
    return round(ns / 1e6, 1)
