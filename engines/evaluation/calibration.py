"""Thresholds and probabilities from data: where a model's scores and similarities start to mean something."""

import math
from collections.abc import Collection

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, logit

from engines.arrays import Double, Flags, Float, Rows
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation.parts import Calibrated, thresholds_part
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import Truth
from engines.spec import TaskName
from engines.tasks import REGISTRY

TINY = 1e-7  # the least probability that single precision tells from 0 and 1
TEMPERATURES = 0.2, 5.0  # the least and the largest that are looked at


def calibrate_thresholds(runner: ModelRunner, truth: Truth, tasks: Collection[TaskName] | None = None) -> Calibrated:
    """Choose the thresholds of a model's tasks on validation data, task by task; the NMS overlaps stay as they are.

    A threshold of which the data says nothing stays as it is, too. Each task's ``thresholds.py`` says how its own are
    chosen, with those of the tasks before it. Of ``tasks`` alone where they are named.

    Raises:
        DataError: too many pictures cannot be read, or the model finds nothing in them.
    """
    spec, skipped = runner.model.spec, SkippedRows()
    chosen = Calibrated(spec.thresholds, spec.identity_calibration)
    for task in REGISTRY:
        if task.name in (spec.network.tasks if tasks is None else tasks) and task.has("thresholds"):
            chosen = thresholds_part(task).choose(runner, truth, chosen, skipped)
    return chosen


def best_temperature(probabilities: Float, target: Rows) -> float:
    """The temperature by which to divide a classifier's logits, so that its probabilities can be believed.

    The one with the smallest negative log-likelihood (Guo et al., "On Calibration of Modern Neural Networks", ICML
    2017, section 4.2). It changes no ranking: what is the most probable stays it.

    Args:
        probabilities: (P, C) softmax of the logits, of P pictures.
        target: (P,) the true class of each.

    Returns:
        Above 1 where the probabilities are surer than they are right, below 1 where they are less sure; 0.2 to 5.
    """
    logits = np.log(np.maximum(probabilities, np.finfo(np.float32).tiny, dtype=np.float64))
    rows = np.arange(len(target))

    def loss(exponent: float) -> float:
        return -float(log_softmax(logits / math.exp(exponent), axis=1)[rows, target].mean())

    found = minimize_scalar(loss, bounds=tuple(map(math.log, TEMPERATURES)), method="bounded")
    return math.exp(float(found.x))


def best_none_logit(known: Float, unknown: Float) -> float:
    """The logit of "none of these" with the best mean of both recalls: of places, and of what is none.

    A picture is none of these where that is likelier than all else together (see
    :meth:`engines.compiling.export.Trained.with_none`).

    Args:
        known: (N,) probability of "none of these", with a logit of 0, of pictures that show a place.
        unknown: (M,) the same of pictures that show none.
    """
    inside, outside = (-logit(np.clip(each.astype(np.float64), TINY, 1 - TINY)) for each in (known, unknown))
    return best_cut(outside, inside)


def best_cut(low: Double, high: Double) -> float:
    """Where the mean of two recalls is best: of values that should be below it (N,), and above it (M,)."""
    cuts = np.sort(np.concatenate([low, high]))
    middles = (cuts[1:] + cuts[:-1]) / 2
    right, wrong = (np.searchsorted(np.sort(each), middles) / len(each) for each in (low, high))
    return float(middles[int(np.argmax(right - wrong))])


def best_f_threshold(scores: Double, correct: Flags, wanted: int) -> float:
    """The score threshold with the best F1, the harmonic mean of precision and recall.

    Args:
        scores: (N,) of all detections that count.
        correct: (N,) whether each found something that was wanted.
        wanted: how many there were to find.

    Returns:
        Half-way between the lowest score to keep and the next one.

    Raises:
        DataError: nothing wanted was found, so no threshold is better than another.
    """
    if not correct.any():
        raise DataError("score threshold: the model finds nothing that the data wants found")
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    f = 2 * np.cumsum(correct[order]) / (np.arange(1, len(ranked) + 1) + wanted)
    below = np.append(ranked[1:], 0.0)
    f[ranked == below] = -1.0  # a threshold cannot part equal scores
    best = int(f.argmax())
    return float(ranked[best] + below[best]) / 2
