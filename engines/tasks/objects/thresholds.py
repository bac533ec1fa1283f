"""What the scores of objects mean, and from which on each label is shown."""

from dataclasses import replace

import msgspec
import numpy as np

from engines.data.names import coco_name
from engines.data.reading import SkippedRows
from engines.evaluation.matching import match
from engines.evaluation.parts import Calibrated
from engines.evaluation.runner import ModelRunner
from engines.evaluation.score_curves import LabelDetections, fit_curves, thresholds_of
from engines.evaluation.truth import Truth
from engines.tasks.objects.metrics import find_objects


def choose(runner: ModelRunner, truth: Truth, chosen: Calibrated, skipped: SkippedRows) -> Calibrated:
    """Fit the curve of each label, and take the probability with its best F1 at IoU 0.5, or that of all labels.

    Labels that the data has too little of get the curve and the threshold of all labels together.

    Raises:
        DataError: too many pictures cannot be read, or the model finds nothing in them.
    """
    if truth.objects is None:
        return chosen
    found = match(*find_objects(runner, truth.objects, runner.uncalibrated_thresholds, skipped))
    by_name = {coco_name(name): LabelDetections.of(each) for name, each in found.categories.items()}
    flags, rows = np.zeros(0, np.bool_), np.zeros(0, np.int64)
    unknown = LabelDetections(np.zeros(0), flags, rows, np.zeros(len(found.pictures), np.int64))
    labels = [by_name.get(coco_name(name), unknown) for name in runner.model.spec.objects]
    curves = fit_curves(labels)
    score, scores = thresholds_of(labels, curves)
    changed = {"object_score": score, "object_scores": scores, "object_curves": curves}
    return replace(chosen, thresholds=msgspec.structs.replace(chosen.thresholds, **changed))
