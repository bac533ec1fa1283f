"""The score from which objects are shown."""

from dataclasses import replace

import msgspec

from engines.data.reading import SkippedRows
from engines.evaluation.calibration import BETA, best_f_threshold, matched
from engines.evaluation.parts import Calibrated
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import Truth
from engines.tasks.objects.metrics import find_objects


def choose(runner: ModelRunner, truth: Truth, chosen: Calibrated, skipped: SkippedRows) -> Calibrated:
    """Take the score with the best F0.5 at IoU 0.5, over all categories together.

    Raises:
        DataError: too many pictures cannot be read, or the model finds nothing in them.
    """
    if truth.objects is None:
        return chosen
    score = best_f_threshold(*matched(*find_objects(runner, truth.objects, runner.curve_thresholds, skipped)), BETA)
    return replace(chosen, thresholds=msgspec.structs.replace(chosen.thresholds, object_score=round(score, 3)))
