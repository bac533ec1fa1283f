"""Curves from a detector's scores to probabilities, and the threshold of each label, from detections and truth."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit, log_expit, logit

from engines.arrays import Double, Flags, Rows
from engines.errors import DataError
from engines.evaluation.calibration import best_f_threshold
from engines.evaluation.matching import CategoryMatches
from engines.scores import calibrated
from engines.spec import ScoreCurves

KNOTS: Final = (0.0, 0.01, 0.02, 0.05, *(step / 20 for step in range(2, 20)), 1.0)
LIMITS: Final = (0.001, 0.999)  # no score says more than that
PRIOR: Final = 10.0  # by how much the logits' slope and shift of a label are drawn to those of all labels
ENOUGH: Final = 30  # right detections of a label; with fewer all labels together say what its curve and threshold are
RISE: Final = 0.001  # share of the score in a probability, so that no two scores become equal
FOLDS: Final = 2  # of the pictures, by which the method is chosen
Method = Literal["sigmoid", "isotonic"]


@dataclass(frozen=True, slots=True)
class LabelDetections:
    """The detections of one label that are right or wrong."""

    scores: Double  # (N,)
    correct: Flags  # (N,)
    pictures: Rows  # (N,) rows
    wanted: Rows  # (P,) boxes to be found in each picture

    @classmethod
    def of(cls, matches: CategoryMatches) -> "LabelDetections":
        """Those of a category, at IoU 0.5."""
        scores, pictures, correct = matches.at(0)
        return cls(scores, correct, pictures, matches.wanted)

    def where(self, pictures: Flags) -> "LabelDetections":
        """Those in some of the pictures (P,)."""
        kept = pictures[self.pictures]
        return LabelDetections(self.scores[kept], self.correct[kept], self.pictures[kept], self.wanted * pictures)


def together(labels: Sequence[LabelDetections]) -> LabelDetections:
    """The detections of all labels as of one."""
    return LabelDetections(
        np.concatenate([each.scores for each in labels]),
        np.concatenate([each.correct for each in labels]),
        np.concatenate([each.pictures for each in labels]),
        np.sum([each.wanted for each in labels], axis=0),
    )


def fit_curves(labels: Sequence[LabelDetections]) -> ScoreCurves:
    """The curves of these labels, in this order, by the method that says best what it was not fitted on.

    Sigmoid: slope and shift of the logits (Platt 1999; a temperature and a prior of each label). Isotonic: the rising
    steps with the least squared error (Zadrozny and Elkan 2002).

    Raises:
        DataError: nothing that was found is right.
    """
    if not together(labels).correct.any():
        raise DataError("score curves: the model finds nothing that the data wants found")
    sigmoid, isotonic = (_held_out_loss(labels, method) for method in ("sigmoid", "isotonic"))
    return fitted(labels, "isotonic" if isotonic < sigmoid else "sigmoid")


def fitted(labels: Sequence[LabelDetections], method: Method) -> ScoreCurves:
    """The curves of these labels by one method."""
    pooled = together(labels)
    if method == "isotonic":
        usual = _isotonic(pooled)
        rows = [_isotonic(each) if each.correct.sum() >= ENOUGH else usual for each in labels]
    else:
        prior = _sigmoid(pooled, (1.0, 0.0), 0.0)
        at = logit(np.clip(KNOTS, *LIMITS))
        rows = [expit(slope * at + shift) for slope, shift in (_sigmoid(each, prior, PRIOR) for each in labels)]
    values = [np.maximum.accumulate((1 - RISE) * row + RISE * np.asarray(KNOTS)) for row in rows]
    return ScoreCurves(method, KNOTS, tuple(tuple(np.clip(row, 0, 1).round(5).tolist()) for row in values))


def thresholds_of(labels: Sequence[LabelDetections], curves: ScoreCurves) -> tuple[float, tuple[float, ...]]:
    """The probability with the best F1 of all labels together, and of each of them, which is no lower.

    The best F1 of a label lies where its probability is half that F1 (Lipton et al. 2014): one that is mostly wrong
    would be shown wherever it is barely thinkable.
    """
    said = [
        LabelDetections(_probabilities(curves, row, each), each.correct, each.pictures, each.wanted)
        for row, each in enumerate(labels)
    ]
    usual = _best_f1(together(said))
    return usual, tuple(max(usual, _best_f1(each)) if each.correct.sum() >= ENOUGH else usual for each in said)


def _best_f1(label: LabelDetections) -> float:
    return round(best_f_threshold(label.scores, label.correct, int(label.wanted.sum())), 3)


def _held_out_loss(labels: Sequence[LabelDetections], method: Method) -> float:
    """The negative log-likelihood of detections by curves that were fitted on other pictures."""
    folds = np.arange(len(labels[0].wanted)) % FOLDS
    loss = 0.0
    for fold in range(FOLDS):
        learnt = [each.where(folds != fold) for each in labels]
        if not together(learnt).correct.any():
            return float("inf")
        curves = fitted(learnt, method)
        for row, each in enumerate(each.where(folds == fold) for each in labels):
            said = np.clip(_probabilities(curves, row, each), *LIMITS)
            loss -= float(np.log(np.where(each.correct, said, 1 - said)).sum())
    return loss


def _probabilities(curves: ScoreCurves, row: int, label: LabelDetections) -> Double:
    return calibrated(curves, label.scores.astype(np.float32), np.full(len(label.scores), row)).astype(np.float64)


def _sigmoid(label: LabelDetections, prior: tuple[float, float], strength: float) -> tuple[float, float]:
    """Slope and shift of the logits, drawn to the ``prior``."""
    if not len(label.scores):
        return prior
    at, right = logit(np.clip(label.scores, *LIMITS)), label.correct

    def loss(found: Double) -> float:
        said = found[0] * at + found[1]
        drawn = strength * ((found[0] - prior[0]) ** 2 + (found[1] - prior[1]) ** 2) / 2
        return float(drawn - log_expit(np.where(right, said, -said)).sum())

    slope, shift = minimize(loss, prior, method="L-BFGS-B", bounds=[(0.1, 10.0), (-10.0, 10.0)]).x.tolist()
    return slope, shift


def _isotonic(label: LabelDetections) -> Double:
    """The share of right detections at each knot: that of its step, and straight between two steps."""
    order = np.argsort(label.scores, kind="stable")
    found = isotonic_regression(label.correct[order].astype(np.float64))
    ends = np.concatenate([found.blocks[:-1], found.blocks[1:] - 1])  # the first and the last of each step
    ends.sort()
    return np.asarray(np.interp(KNOTS, label.scores[order][ends], found.x[ends]), np.float64)
