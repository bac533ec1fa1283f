"""The score from which faces are shown."""

from dataclasses import replace

import msgspec

from engines.data.reading import SkippedRows
from engines.evaluation.calibration import BETA, best_f_threshold, matched
from engines.evaluation.parts import Calibrated
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import Truth
from engines.tasks.faces.metrics import find_faces


def choose(runner: ModelRunner, truth: Truth, chosen: Calibrated, skipped: SkippedRows) -> Calibrated:
    """Take the score with the best F0.5 at IoU 0.5, over all categories together.

    Raises:
        DataError: too many pictures cannot be read, or the model finds nothing in them.
    """
    if truth.faces is None:
        return chosen
    score = best_f_threshold(*matched(*find_faces(runner, truth.faces, runner.curve_thresholds, skipped)), BETA)
    return replace(chosen, thresholds=msgspec.structs.replace(chosen.thresholds, face_score=round(score, 3)))
