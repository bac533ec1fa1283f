"""Our tracker's scores on sequences, as ``trunkline evaluate --task tracking`` shows them."""

from typing import Literal

import msgspec
import numpy as np

from tools.tracking.ours import follow
from tools.tracking.scoring import Scores, score
from tools.tracking.sequences import CLASSES, Rows, Sequence


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


def evaluate_sequence(sequence: Sequence) -> tuple[list[ClassScores], Rows]:
    """Score each class that has true tracks; the tracks of all classes of the detections."""
    outcomes, shown = [], []
    taken = 0
    for number in sorted({*sequence.classes, *np.unique(sequence.detections.classes).tolist()}):
        alone = sequence.of_class(number)
        tracks, seconds = follow(alone)
        if number in sequence.classes:
            outcomes.append(
                ClassScores(
                    sequence=sequence.name,
                    label=label_of(number),
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


def label_of(number: int) -> str:
    """The name of a class, or its number."""
    return CLASSES.get(number, f"class {number}")
