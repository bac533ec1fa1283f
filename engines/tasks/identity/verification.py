"""Verification: are two faces one person? Accuracy over folds, and rates at a false-accept rate."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.arrays import Double, Flags, Float, Ints
from engines.data.pairs import Pair
from engines.errors import DataError
from engines.evaluation.bootstrap import weighted_mean

FOLDS = 10
ROC_POINTS = 100


@dataclass(frozen=True, slots=True)
class Folds:
    """P pairs in folds by identity."""

    fold: Ints  # (P,) the fold in which a pair is tested
    touched: Ints  # (P, 2) the folds that its two identities belong to

    def split(self, fold: int) -> tuple[Flags, Flags]:
        """(P,) pairs to test in a fold, and (P,) pairs to choose its threshold on: none shares a fold's identity."""
        return self.fold == fold, ~(self.touched == fold).any(axis=1)


def split_folds(pairs: Sequence[Pair]) -> Folds:
    """Deal identities, and with them pairs, to folds; the same pairs always give the same folds.

    Identities go, those with most genuine pairs first, to the fold that has fewest genuine pairs. A genuine pair is
    tested in the fold of its identity, an impostor pair in one of the folds of its two, where there are fewer
    impostors so far. The threshold of a fold is chosen on the pairs that show none of that fold's identities.
    """
    genuine = Counter(pair.identities[0] for pair in pairs if pair.genuine)
    names = sorted({name for pair in pairs for name in pair.identities}, key=lambda name: (-genuine[name], name))
    load = [(0, 0, fold) for fold in range(FOLDS)]  # genuine pairs, identities, fold
    home: dict[str, int] = {}
    for name in names:
        pairs_so_far, identities, fold = min(load)
        home[name] = fold
        load[fold] = (pairs_so_far + genuine[name], identities + 1, fold)
    impostors: Counter[int] = Counter()
    tested = []
    for pair in pairs:
        first, second = (home[name] for name in pair.identities)
        fold = first if pair.genuine else min(first, second, key=lambda fold: (impostors[fold], fold))
        impostors[fold] += not pair.genuine
        tested.append(fold)
    touched = [[home[name] for name in pair.identities] for pair in pairs]
    return Folds(np.array(tested, np.int64), np.array(touched, np.int64).reshape(-1, 2))


@dataclass(frozen=True, slots=True)
class FoldAccuracy:
    """Verification accuracy of each fold, in each of R resamples of the pairs."""

    accuracies: Double  # (R, folds) not a number where a resample has no pair in a fold
    thresholds: Double  # (R, folds) chosen on the other folds

    @property
    def mean(self) -> Double:
        """(R,) mean over the folds."""
        return weighted_mean(self.accuracies, np.ones_like(self.accuracies))

    @property
    def std(self) -> Double:
        """(R,) standard deviation over the folds."""
        return np.asarray(np.nanstd(self.accuracies, axis=1))


def fold_accuracy(similarities: Double, genuine: Flags, folds: Folds, weights: Double | None = None) -> FoldAccuracy:
    """Accuracy of "one person" at or above a threshold chosen on the other folds, in the manner of LFW.

    Huang et al., "Labeled Faces in the Wild", University of Massachusetts, 2007.

    Args:
        similarities: (P,) not a number where a pair could not be compared: that is an error, whichever kind it is.
        genuine: (P,) whether the pair shows one person.
        folds: of the same pairs.
        weights: (R, P) how often each pair counts, in each of R resamples; None: once, in one.

    Raises:
        DataError: the pairs are too few to choose a threshold away from the fold that it is tested on.
    """
    weights = np.ones((1, len(similarities))) if weights is None else weights
    accuracies, thresholds = [], []
    for fold in np.unique(folds.fold).tolist():
        test, train = folds.split(fold)
        train &= np.isfinite(similarities)
        if not train.any():
            raise DataError(f"verification: {len(genuine)} pairs are too few for {FOLDS} folds of identities")
        chosen = best_thresholds(similarities[train], genuine[train], weights[:, train])
        told = right(similarities[test], genuine[test], chosen[:, None])
        accuracies.append(weighted_mean(told, weights[:, test]))
        thresholds.append(chosen)
    return FoldAccuracy(np.stack(accuracies, axis=1), np.stack(thresholds, axis=1))


def right(similarities: Double, genuine: Flags, threshold: float | Double) -> Flags:
    """(P,) whether each pair is told rightly; a pair that could not be compared never is."""
    accepted: Flags = similarities >= threshold
    return np.asarray(np.isfinite(similarities) & (accepted == genuine), np.bool_)


def best_thresholds(similarities: Double, genuine: Flags, weights: Double) -> Double:
    """The threshold with most pairs right, in each resample: the middle one, where several are equally good.

    Candidates lie half-way between neighbouring similarities, and just outside them all.

    Args:
        similarities: (P,) all of them numbers.
        genuine: (P,)
        weights: (R, P) how often each pair counts.

    Returns:
        (R,)
    """
    order = np.argsort(-similarities, kind="stable")
    ranked, weights = similarities[order], weights[:, order]
    # With the i best pairs accepted: genuine ones among them, and impostors not among them, are right.
    correct = np.zeros((len(weights), len(ranked) + 1))
    np.cumsum(np.where(genuine[order], weights, -weights), axis=1, out=correct[:, 1:])
    cuts = np.concatenate([[ranked[0] + 1e-6], (ranked[:-1] + ranked[1:]) / 2, [ranked[-1] - 1e-6]])
    possible = np.concatenate([[True], ranked[:-1] > ranked[1:], [True]])  # equal similarities cannot be told apart
    correct, cuts = correct[:, possible], cuts[possible]
    best = correct == correct.max(axis=1, keepdims=True)
    middle = best.sum(axis=1) // 2 + 1
    return np.asarray(cuts[(np.cumsum(best, axis=1, dtype=np.int32) == middle[:, None]).argmax(axis=1)])


def accept_threshold(impostors: Double | Float, far: float) -> float:
    """The lowest threshold at which at most the share ``far`` of ``impostors`` (K,) is at or above it."""
    allowed = int(far * len(impostors) + 1e-9)
    if allowed >= len(impostors):
        return float(impostors.min())
    highest = np.partition(impostors, len(impostors) - 1 - allowed)[len(impostors) - 1 - allowed]
    return float(np.nextafter(highest, np.inf))


def accept_thresholds(impostors: Double, far: float, weights: Double) -> Double:
    """The same (R,) when each impostor counts as often as ``weights`` (R, K) say; infinite where none does."""
    order = np.argsort(-impostors, kind="stable")
    ranked, passed = impostors[order], np.cumsum(weights[:, order], axis=1)
    # Equal similarities pass together or not at all.
    last = np.searchsorted(-ranked, -ranked, side="right") - 1
    refused = passed[:, last] > far * passed[:, -1:] + 1e-9
    thresholds = np.nextafter(ranked[refused.argmax(axis=1)], np.inf)
    thresholds[~refused.any(axis=1)] = ranked[-1]
    return np.where(passed[:, -1] > 0, thresholds, np.inf)


@dataclass(frozen=True, slots=True)
class AcceptRate:
    """True-accept rate at a false-accept rate."""

    rate: float
    threshold: float
    resampled: Double  # (R,)


def accept_rate(similarities: Double, genuine: Flags, far: float, weights: Double) -> AcceptRate | None:
    """True-accept rate at a false-accept rate, and under ``weights`` (R, P) of the pairs.

    A genuine pair that could not be compared counts as rejected; such an impostor pair is left out.

    Returns:
        None where the impostor pairs are so few that ``far`` allows none of them.
    """
    impostors = ~genuine & np.isfinite(similarities)
    if far * impostors.sum() < 1 or not genuine.any():
        return None
    threshold = accept_threshold(similarities[impostors], far)
    thresholds = accept_thresholds(similarities[impostors], far, weights[:, impostors])
    accepted = similarities[genuine] >= thresholds[:, None]
    return AcceptRate(
        float((similarities[genuine] >= threshold).mean()), threshold, weighted_mean(accepted, weights[:, genuine])
    )


def roc(similarities: Double, genuine: Flags) -> list[tuple[float, float]]:
    """Points of the receiver operating characteristic: false-accept rate and true-accept rate, both rising.

    At most :data:`ROC_POINTS`, evenly spread over the logarithm of the false-accept rate. A genuine pair that could
    not be compared counts as rejected; such an impostor pair is left out. Empty where there are no pairs of one kind.
    """
    impostors = similarities[~genuine & np.isfinite(similarities)]
    if not len(impostors) or not genuine.any():
        return []
    passed = np.unique(np.geomspace(1, len(impostors), ROC_POINTS).round()).tolist()
    thresholds = np.array([accept_threshold(impostors, count / len(impostors)) for count in passed])[:, None]
    # Where impostors are equally similar, fewer pass than were asked for, and two points may be one.
    reached, accepted = (impostors >= thresholds).mean(axis=1), (similarities[genuine] >= thresholds).mean(axis=1)
    return list(dict.fromkeys(zip(reached.tolist(), accepted.tolist(), strict=True)))
