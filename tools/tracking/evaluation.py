"""The tracker on sequences, and its scores, as ``trunkline evaluate tracking`` shows them."""

import time
from typing import Literal

import msgspec
import numpy as np

from pipeline.frames.types import Tracks
from pipeline.settings.schema import TrackingSettings
from pipeline.sources.rate import RateGate
from pipeline.tracking.found import TrackerInput
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.update import TrackingRules
from tools.tracking.scoring import Scores, score
from tools.tracking.sequences import CLASSES, SURE_SCORE, Rows, Sequence


class ClassScores(msgspec.Struct, frozen=True, kw_only=True):
    """One class of one sequence."""

    sequence: str
    label: str
    class_number: int  # in the eighth column of the sequence's files
    frames: int
    scores: Scores
    cpu_ms_per_frame: float


class TrackingReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``--json`` prints."""

    format: Literal[1] = 1
    sequences: tuple[ClassScores, ...]
    mean_hota: float  # of the rows above


def evaluate_sequence(sequence: Sequence, fps: float | None = None) -> tuple[list[ClassScores], Rows]:
    """Score each class that has true tracks; the tracks of all classes of the detections.

    With ``fps`` only so many frames a second are looked at, and those between show where tracks are thought to be.
    """
    outcomes, shown = [], []
    taken = 0
    for number in sorted({*sequence.classes, *np.unique(sequence.detections.classes).tolist()}):
        alone = sequence.of_class(number)
        tracks, seconds = follow(alone, fps)
        if number in sequence.classes:
            outcomes.append(
                ClassScores(
                    sequence=sequence.name,
                    label=CLASSES.get(number, f"class {number}"),
                    class_number=number,
                    frames=sequence.length,
                    scores=score(alone, tracks),
                    cpu_ms_per_frame=round(1e3 * seconds / sequence.length, 4),
                )
            )
        # Ids of one class go on where those of the class before ended, so that no two tracks of a file share one.
        shown.append(tracks.renumbered(taken))
        taken += int(tracks.ids.max(initial=0))
    return outcomes, Rows.joined(shown)


def follow(sequence: Sequence, fps: float | None = None) -> tuple[Rows, float]:
    """The tracks that are found frame by frame, as in a run, and the CPU seconds of the tracker's updates alone.

    The detections of ``sequence`` all are of one class.
    """
    tracker = Tracker(TrackingRules(TrackingSettings(), SURE_SCORE))
    frames = sequence.detections.by_frame(sequence.length)
    given = [TrackerInput(frame.boxes, frame.scores, frame.classes) for frame in frames]
    began = time.thread_time()
    gate, found, left_out = None if fps is None else RateGate(fps), list[Tracks](), 0
    for row, seen in enumerate(given):
        time_s = row / sequence.rate
        if gate is None or gate.look(time_s):
            found += tracker.update(time_s, seen, size=sequence.size, stands_for=1 + left_out)
            left_out = 0
        else:
            found += tracker.predicted(time_s, found[-1], size=sequence.size)
            left_out += 1
    seconds = time.thread_time() - began
    times = np.repeat(np.arange(1, len(found) + 1), [len(frame.ids) for frame in found])
    columns = zip(*((frame.ids, frame.boxes, frame.scores, frame.labels) for frame in found), strict=True)
    return Rows(times, *map(np.concatenate, columns)), seconds
