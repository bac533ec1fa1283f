"""Label noise made by simulation: things whose true label is known, and a network that errs as real ones do.

Each kind of noise is hard in one way. All of a simulation follows from its kind and its seed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from engines.arrays import Double, Rows

CLASSES: Final = 12
CALM_S: Final = 3.0  # a true label lasts at least so long
CONCENTRATION: Final = 25.0  # of the beta distributions of scores: a deviation of about 0.09
LOGIT_NOISE: Final = 0.5  # standard deviations of a scene's logits, of noise that stays ...
LOGIT_NOISE_S: Final = 0.6  # ... for so long, and of noise that is new in every frame
SEEN_PARTLY: Final = 0.5  # share of its logit that the true scene keeps while another one is seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """A kind of noise."""

    name: str
    classes: int = CLASSES
    errors: float = 0.02  # share of frames that show another label, each frame by itself
    bursts_per_min: float = 0.0  # in which all frames show the same other label ...
    burst_s: float = 0.2  # ... for so long, in the mean
    paired: bool = False  # errors show always the same other label, the true one's neighbour
    right: float = 0.7  # mean score of a right label
    wrong: float = 0.5  # and of a wrong one
    rates: tuple[float, ...] = (25.0,)  # frames/s, in turn
    turn_s: float = 5.0  # for so long each
    dropped: float = 0.0  # share of the frames that never come
    change_s: float = 20.0  # mean time between true changes, CALM_S at least


# Floors are claimed on these.
NOISES: Final = (
    Noise(name="independent", errors=0.15),
    Noise(name="bursts", errors=0.05, bursts_per_min=25.0, burst_s=0.12),
    Noise(name="confused", errors=0.3, bursts_per_min=25.0, burst_s=0.06, paired=True),
    Noise(name="weak", errors=0.25, bursts_per_min=10.0, burst_s=0.1, right=0.3, wrong=0.25),
    Noise(name="overconfident", errors=0.12, bursts_per_min=15.0, burst_s=0.1, right=0.7, wrong=0.75),
    Noise(name="low-rate", errors=0.08, rates=(6.0,)),
    Noise(name="changing-rate", errors=0.1, bursts_per_min=8.0, burst_s=0.1, rates=(25.0, 8.0, 15.0)),
    Noise(name="dropped", errors=0.12, bursts_per_min=8.0, burst_s=0.1, dropped=0.5),
    Noise(
        name="all", errors=0.12, bursts_per_min=15.0, burst_s=0.1, right=0.45, wrong=0.4, rates=(25.0, 10.0),
        dropped=0.25,
    ),
)  # fmt: skip

# What no filter can do all of: errors as long as what must count as a change, frames further apart than the floor of
# the delay, hardly an error to win back what the delay costs.
HARD: Final = (
    Noise(name="long-bursts", errors=0.02, bursts_per_min=6.0, burst_s=0.5),
    Noise(name="two-a-second", errors=0.08, rates=(2.0,)),
    Noise(name="hardly-any", errors=0.005),
)


@dataclass(frozen=True, slots=True)
class Simulated:
    """N things in F frames."""

    noise: Noise
    times_s: Double  # (F,)
    truth: Rows  # (F, N)
    labels: Rows  # (F, N) as the network sees them
    scores: npt.NDArray[np.float32]  # (F, N)
    changes: tuple[tuple[Double, Rows], ...]  # of each thing: times (M,), and the labels from then on (M,)

    @property
    def length_s(self) -> float:
        return float(self.times_s[-1])


def simulate(noise: Noise, seed: int, things: int, seconds: float) -> Simulated:
    """Labels and scores of ``things`` things, all in the same frames."""
    random = np.random.default_rng(seed)
    times = _times(noise, seconds, random)
    lives = tuple(_life(noise, seconds, random) for _ in range(things))
    truth = np.stack([labels[np.searchsorted(since, times, side="right") - 1] for since, labels in lives], axis=1)
    shift = np.stack([_burst_shift(noise, times, seconds, random) for _ in range(things)], axis=1)
    alone = random.random(truth.shape) < noise.errors
    shift = np.where(alone, _shifts(noise, random, truth.shape), shift)
    labels = (truth + shift) % noise.classes
    mean = np.where(shift == 0, noise.right, noise.wrong)
    scores = random.beta(CONCENTRATION * mean, CONCENTRATION * (1 - mean))
    changes = tuple((since[1:], labels[1:]) for since, labels in lives)
    return Simulated(noise, times, truth, labels, scores.astype(np.float32), changes)


def probabilities(simulated: Simulated, seed: int) -> npt.NDArray[np.float32]:
    """The same as scenes: (F, N, C), with logits that stray, so that other labels lead at times, too.

    Where nothing strays, the label that is seen is as probable as its score.
    """
    random = np.random.default_rng([seed, 1])
    (frames, things), classes = simulated.truth.shape, simulated.noise.classes
    odds = np.log(simulated.scores / (1 - simulated.scores)) + np.log(simulated.noise.classes - 1)
    logits = random.normal(0, LOGIT_NOISE, (frames, things, classes))
    stray = random.normal(0, LOGIT_NOISE, (things, classes))
    for row, step in enumerate(np.diff(simulated.times_s, prepend=0.0)):
        calm = np.exp(-step / LOGIT_NOISE_S)
        stray = calm * stray + np.sqrt(1 - calm**2) * random.normal(0, LOGIT_NOISE, stray.shape)
        logits[row] += stray
    every = np.ix_(np.arange(frames), np.arange(things))
    wrong = simulated.labels != simulated.truth
    logits[(*every, simulated.labels)] += odds
    logits[(*every, simulated.truth)] += np.where(wrong, SEEN_PARTLY * odds, 0.0)
    np.exp(logits, out=logits)
    return np.asarray(logits / logits.sum(axis=-1, keepdims=True), np.float32)


def _times(noise: Noise, seconds: float, random: np.random.Generator) -> Double:
    times, now = [], 0.0
    while now < seconds:
        times.append(now)
        rate = noise.rates[int(now / noise.turn_s) % len(noise.rates)]
        now += 1 / rate
    kept = random.random(len(times)) >= noise.dropped
    return np.array(times)[kept]


def _life(noise: Noise, seconds: float, random: np.random.Generator) -> tuple[Double, Rows]:
    """Since when (M,) a thing has which label (M,), the first from 0 on."""
    times, labels = [0.0], [int(random.integers(noise.classes))]
    while (since := times[-1] + CALM_S + random.exponential(noise.change_s - CALM_S)) < seconds - CALM_S:
        times.append(since)
        labels.append((labels[-1] + int(random.integers(1, noise.classes))) % noise.classes)
    return np.array(times), np.array(labels)


def _burst_shift(noise: Noise, times: Double, seconds: float, random: np.random.Generator) -> Rows:
    """By how much the label of a thing is off in each frame (F,), for bursts."""
    shift = np.zeros(len(times), np.int64)
    count = random.poisson(noise.bursts_per_min * seconds / 60)
    starts, lengths = random.uniform(0, seconds, count), random.exponential(noise.burst_s, count)
    for start, length, by in zip(starts, lengths, _shifts(noise, random, count), strict=True):
        first, end = np.searchsorted(times, (start, start + length))
        shift[first:end] = by
    return shift


def _shifts(noise: Noise, random: np.random.Generator, shape: tuple[int, ...] | int) -> Rows:
    return np.ones(shape, np.int64) if noise.paired else random.integers(1, noise.classes, shape)
