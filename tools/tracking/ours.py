"""Trunkline's own tracker on a sequence."""

import time
from typing import Final

import numpy as np

from pipeline.frames.types import Tracks
from pipeline.settings.schema import TrackingSettings
from pipeline.tracking.tracker import Tracker, TrackerInput
from tools.tracking.sequences import Rows, Sequence

OURS: Final = "Trunkline"


def follow(sequence: Sequence) -> tuple[Rows, float]:
    """The tracks that Trunkline finds, frame by frame as in a run, and the CPU seconds of its updates alone.

    The detections of ``sequence`` all are of one class.
    """
    tracker = Tracker(TrackingSettings(), sequence.sure_score)
    given = [
        (time_s, TrackerInput(frame.boxes, frame.scores, frame.classes))
        for time_s, frame in zip(sequence.times.tolist(), sequence.detections.by_frame(sequence.length), strict=True)
    ]
    began = time.thread_time()
    found = [tracker.update(time_s, seen, size=sequence.size)[0] for time_s, seen in given]
    seconds = time.thread_time() - began
    return _rows(found), seconds


def _rows(found: list[Tracks]) -> Rows:
    return Rows(
        np.repeat(np.arange(1, len(found) + 1), [len(frame.ids) for frame in found]),
        np.concatenate([frame.ids for frame in found]),
        np.concatenate([frame.boxes for frame in found]),
        np.concatenate([frame.scores for frame in found]),
        np.concatenate([frame.labels for frame in found]),
    )
