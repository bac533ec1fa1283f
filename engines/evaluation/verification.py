"""Verification: are two faces one person? Accuracy over folds, and rates at a false-accept rate."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from engines.boxes import Float
from engines.errors import DataError
from engines.evaluation.data import Pair

FOLDS = 10

Doubles = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Folds:
    """P pairs in folds by identity."""

    fold: npt.NDArray[np.int64]  # (P,) the fold in which a pair is tested
    touched: npt.NDArray[np.int64]  # (P, 2) the folds that its two identities belong to

    def split(self, fold: int) -> tuple[Flags, Flags]:
        """(P,) pairs to test in a fold, and (P,) pairs to choose its threshold on: none shares a fold's identity."""
        return self.fold == fold, ~(self.touched == fold).any(axis=1)


def split_folds(pairs: Sequence[Pair], folds: int = FOLDS) -> Folds:
    """Deal identities, and with them pairs, to folds; the same pairs always give the same folds.

    Identities go, those with most genuine pairs first, to the fold that has fewest genuine pairs. A genuine pair is
    tested in the fold of its identity, an impostor pair in one of the folds of its two, where there are fewer
    impostors so far. The threshold of a fold is chosen on the pairs that show none of that fold's identities.
    """
    genuine = Counter(pair.identities[0] for pair in pairs if pair.genuine)
    names = sorted({name for pair in pairs for name in pair.identities}, key=lambda name: (-genuine[name], name))
    load = [(0, 0, fold) for fold in range(folds)]  # genuine pairs, identities, fold
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
    """Verification accuracy over folds."""

    accuracy: float  # mean over the folds
    std: float  # standard deviation over the folds
    threshold: float  # mean of the folds' thresholds


def fold_accuracy(similarities: Doubles, genuine: Flags, folds: Folds) -> FoldAccuracy:
    """Accuracy of "one person" at or above a threshold chosen on the other folds, in the manner of LFW.

    Huang et al., "Labeled Faces in the Wild", University of Massachusetts, 2007.

    Args:
        similarities: (P,) not a number where a pair could not be compared: that is an error, whichever kind it is.
        genuine: (P,) whether the pair shows one person.
        folds: of the same pairs.

    Raises:
        DataError: the pairs are too few to choose a threshold away from the fold that it is tested on.
    """
    accuracies, thresholds = [], []
    for fold in np.unique(folds.fold).tolist():
        test, train = folds.split(fold)
        train &= np.isfinite(similarities)
        if not train.any():
            raise DataError(f"verification: {len(genuine)} pairs are too few for {FOLDS} folds of identities")
        threshold = best_threshold(similarities[train], genuine[train])
        accuracies.append(float(right(similarities[test], genuine[test], threshold).mean()))
        thresholds.append(threshold)
    return FoldAccuracy(float(np.mean(accuracies)), float(np.std(accuracies)), float(np.mean(thresholds)))


def right(similarities: Doubles, genuine: Flags, threshold: float) -> Flags:
    """(P,) whether each pair is told rightly; a pair that could not be compared never is."""
    accepted: Flags = similarities >= threshold
    return np.asarray(np.isfinite(similarities) & (accepted == genuine), np.bool_)


def best_threshold(similarities: Doubles, genuine: Flags) -> float:
    """The threshold with most pairs right: the middle one, where several are equally good.

    Candidates lie half-way between neighbouring similarities, and just outside them all.
    """
    order = np.argsort(-similarities, kind="stable")
    ranked = similarities[order]
    # With the i best pairs accepted: genuine ones among them, and impostors not among them, are right.
    accepted = np.concatenate([[0], np.cumsum(genuine[order])])
    rejected = np.concatenate([[0], np.cumsum(~genuine[order])])
    correct = accepted + (rejected[-1] - rejected)
    cuts = np.concatenate([[ranked[0] + 1e-6], (ranked[:-1] + ranked[1:]) / 2, [ranked[-1] - 1e-6]])
    possible = np.concatenate([[True], ranked[:-1] > ranked[1:], [True]])  # equal similarities cannot be told apart
    best = np.flatnonzero(possible & (correct == correct[possible].max()))
    return float(cuts[best[len(best) // 2]])


def accept_threshold(impostors: Doubles | Float, far: float) -> float:
    """The lowest threshold at which at most the share ``far`` of ``impostors`` (K,) is at or above it."""
    allowed = int(far * len(impostors) + 1e-9)
    if allowed >= len(impostors):
        return float(impostors.min())
    highest = np.partition(impostors, len(impostors) - 1 - allowed)[len(impostors) - 1 - allowed]
    return float(np.nextafter(highest, np.inf))


def accept_rate(similarities: Doubles, genuine: Flags, far: float) -> tuple[float, float]:
    """True-accept rate at a false-accept rate, and its threshold.

    A genuine pair that could not be compared counts as rejected; such an impostor pair is left out.
    """
    impostors = similarities[~genuine & np.isfinite(similarities)]
    if not len(impostors) or not genuine.any():
        raise DataError("verification: needs pairs of one person and pairs of two people that could be compared")
    threshold = accept_threshold(impostors, far)
    return float((similarities[genuine] >= threshold).mean()), threshold
