"""What the scores of faces mean, and from which on they are shown."""

from dataclasses import replace

import msgspec

from engines.data.reading import SkippedRows
from engines.evaluation.matching import match
from engines.evaluation.parts import Calibrated
from engines.evaluation.runner import ModelRunner
from engines.evaluation.score_curves import LabelDetections, fit_curves, thresholds_of
from engines.evaluation.truth import Truth
from engines.tasks.faces.metrics import find_faces


def choose(runner: ModelRunner, truth: Truth, chosen: Calibrated, skipped: SkippedRows) -> Calibrated:
    """Fit their curve, and take the probability with the best F1 at IoU 0.5.

    Raises:
        DataError: too many pictures cannot be read, or the model finds nothing in them.
    """
    if truth.faces is None:
        return chosen
    found = match(*find_faces(runner, truth.faces, runner.uncalibrated_thresholds, skipped))
    faces = [LabelDetections.of(each) for each in found.categories.values()]
    curve = fit_curves(faces)
    score, _ = thresholds_of(faces, curve)
    return replace(chosen, thresholds=msgspec.structs.replace(chosen.thresholds, face_score=score, face_curve=curve))
