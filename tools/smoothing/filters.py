"""The filters that were considered, each over many settings at once.

All take the frames of N things in turn: what a frame says of them (N, C), the scores by label, and the time since the
last frame. All tell what they show of each thing, (P, N), for P settings; a setting is a number, or a column (P, 1).
"""

from collections import deque
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

LEAST: Final = 1e-4  # probability: a label that one frame rules out can come back
LEAST_LIKELY: Final = 0.02  # the same of the forward pass: the surest networks are wrong at times


class Filter(Protocol):
    """What turns frames into what is shown."""

    def update(self, step_s: float, scores: Double) -> Rows:
        """Take the scores (N, C) of a frame ``step_s`` after the last one; shown labels (P, N)."""
        ...


class Unsmoothed:
    """Each frame's own label."""

    def update(self, step_s: float, scores: Double) -> Rows:
        return np.asarray(scores.argmax(axis=-1)[None])


class MajorityVote:
    """The label of most frames within ``window_s``; of equal ones the lowest."""

    def __init__(self, window_s: float) -> None:
        self._mean = WindowMean(window_s)

    def update(self, step_s: float, scores: Double) -> Rows:
        return self._mean.update(step_s, np.eye(scores.shape[-1])[scores.argmax(axis=-1)])


class WindowMean:
    """The label with the highest mean score over ``window_s``: the plain average."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, Double]] = deque()
        self._now_s = 0.0

    def update(self, step_s: float, scores: Double) -> Rows:
        self._now_s += step_s
        self._seen.append((self._now_s, scores))
        while self._seen[0][0] <= self._now_s - self._window_s:
            self._seen.popleft()
        return np.asarray(np.sum([each for _, each in self._seen], axis=0).argmax(axis=-1)[None])


class Election:
    """A label is replaced when another one has led by ``margin``, as a share of the belief in both, for ``hold_s``.

    Who leads in a frame has led since the frame before.
    """

    def __init__(self, margin: Double, hold_s: Double) -> None:
        self._margin, self._hold_s = margin, hold_s
        self._label: Rows | None = None
        self._rival: Rows = np.zeros(0, np.int64)
        self._led_s: Double = np.zeros(0)

    def update(self, step_s: float, belief: Double) -> Rows:
        """Take the shares (P, N, C)."""
        best = belief.argmax(axis=-1)
        if self._label is None:
            self._label = self._rival = best
            self._led_s = np.zeros(best.shape)
        ahead, behind = (1.0 - self._margin) * _at(belief, best), (1.0 + self._margin) * _at(belief, self._label)
        rival = np.where(ahead > behind, best, self._label)
        self._led_s = np.where(rival == self._rival, self._led_s, 0.0) + step_s
        self._rival = rival
        self._label = np.where(self._led_s >= self._hold_s, rival, self._label)
        return self._label


class Pool:
    """A decaying mean over time of what frames say, weighed by their confidence to the power ``emphasis``.

    What a frame says holds since the frame before, but a frame has at most the weight ``most``. Of probabilities
    (Stone, "The Opinion Pool", Annals of Mathematical Statistics 32(4), 1961), or with a ``sharpness`` of their
    logarithms (Genest and Zidek, "Combining Probability Distributions", Statistical Science 1(1), 1986), whose mean is
    multiplied by it.
    """

    def __init__(
        self,
        half_life_s: Double,
        most: Double,
        emphasis: Double,
        margin: Double,
        hold_s: Double,
        sharpness: Double | None = None,
    ) -> None:
        self._half_life_s, self._most, self._emphasis = half_life_s[..., None], most[..., None], emphasis[..., None]
        self._sharpness = None if sharpness is None else sharpness[..., None]
        self._sum: Double | None = None
        self._weight: Double = np.zeros(0)
        self._election = Election(margin, hold_s)

    def update(self, step_s: float, scores: Double) -> Rows:
        confidence = scores.max(axis=-1, keepdims=True) ** self._emphasis
        evidence = confidence * (scores if self._sharpness is None else np.log(probable(scores)))
        share = np.minimum(1.0 - 0.5 ** (step_s / self._half_life_s), self._most)
        if self._sum is None:
            self._sum, self._weight, share = 0.0 * evidence, 0.0 * confidence, self._most
        self._sum = self._sum + share * (evidence - self._sum)
        self._weight = self._weight + share * (confidence - self._weight)
        mean = self._sum / self._weight
        belief = mean
        if self._sharpness is not None:
            belief = np.exp(self._sharpness * (mean - mean.max(axis=-1, keepdims=True)))
        return self._election.update(step_s, belief / belief.sum(axis=-1, keepdims=True))


class Forward:
    """The forward pass of a hidden Markov model: Rabiner, "A Tutorial on Hidden Markov Models", IEEE 77(2), 1989.

    A true label changes every ``lasts_s`` in the mean, to any other one. A frame's likelihood of a label is its score
    to the power ``gain``, tempered: frames closer than ``apart_s`` err together, so that they tell less each.
    """

    def __init__(self, lasts_s: Double, apart_s: Double, gain: Double, margin: Double, hold_s: Double) -> None:
        self._lasts_s, self._apart_s, self._gain = lasts_s[..., None], apart_s[..., None], gain[..., None]
        self._belief: Double | None = None
        self._election = Election(margin, hold_s)

    def update(self, step_s: float, scores: Double) -> Rows:
        stays, weight = np.exp(-step_s / self._lasts_s), 1.0 - np.exp(-step_s / self._apart_s)
        if self._belief is None:
            self._belief, weight = np.full(scores.shape, 1.0 / scores.shape[-1]), np.ones_like(weight)
        belief = self._belief * stays + (1.0 - stays) / scores.shape[-1]
        belief = belief * np.maximum(probable(scores), LEAST_LIKELY) ** (weight * self._gain)
        self._belief = belief / belief.sum(axis=-1, keepdims=True)
        return self._election.update(step_s, self._belief)


def probable(scores: Double) -> Double:
    """Scores (N, C) as probabilities: what one label's score leaves is shared by the others."""
    left = np.maximum(1.0 - scores.sum(axis=-1, keepdims=True), 0.0)
    return np.asarray(np.maximum(scores + left / scores.shape[-1], LEAST))


def _at(belief: Double, label: Rows) -> Double:
    return np.take_along_axis(belief, label[..., None], axis=-1)[..., 0]
