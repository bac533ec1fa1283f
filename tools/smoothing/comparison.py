"""What the pipeline shows of simulated noise, beside no smoothing, a majority vote and a plain average."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, Literal

import msgspec
import numpy as np

from engines.arrays import Double, Rows
from pipeline.settings.schema import SmoothingSettings
from pipeline.smoothing.stage import LabelSmoother, SceneSmoother
from tools.smoothing.scoring import Figures, mean, score
from tools.smoothing.simulated import HARD, NOISES, Noise, Simulated, probabilities, simulate

Kind = Literal["labels", "scenes"]

OURS: Final = "Trunkline"
NO_SMOOTHING: Final = "none"
PLAIN: Final = (NO_SMOOTHING, "majority vote", "plain average")
KINDS: Final[tuple[Kind, ...]] = ("labels", "scenes")
SEEDS: Final = (201, 202)
THINGS: Final = 12
SECONDS: Final = 90.0
# A scene is named from a probability of 0.5 on: of weaker ones there would be nothing to see.
SCENE_RIGHT: Final = 0.6
SCENE_WRONG: Final = 0.5
# A window that averages noise as much as the decaying mean does, so that both remember equally much.
WINDOW_S: Final = 2 * SmoothingSettings().half_life_s / float(np.log(2))

STEPS: Final = len(KINDS) * len((*NOISES, *HARD)) * (1 + len(PLAIN))


class NoiseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A filter on one kind of noise."""

    kind: Kind
    noise: str
    hard: bool  # where no filter can do everything
    filter: str
    figures: Figures


class SmoothingStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows."""

    format: Literal[2] = 2
    settings: SmoothingSettings
    window_s: float = round(WINDOW_S, 3)
    seeds: tuple[int, ...] = SEEDS
    things: int = THINGS
    seconds: float = SECONDS
    measured: tuple[NoiseFigures, ...]


def compare() -> Iterator[NoiseFigures]:
    """Measure every filter on every kind of noise, for labels and for scenes."""
    for kind in KINDS:
        for noise in (*NOISES, *HARD):
            found: dict[str, list[Figures]] = {}
            for seed in SEEDS:
                truth, scores = make(kind, noise, seed)
                for name, labels in shown_by_all(kind, truth.times_s, scores).items():
                    found.setdefault(name, []).append(score(truth, labels))
            for name, figures in found.items():
                hard = noise in HARD
                yield NoiseFigures(kind=kind, noise=noise.name, hard=hard, filter=name, figures=mean(figures))


def make(kind: Kind, noise: Noise, seed: int) -> tuple[Simulated, Double]:
    """One simulation, and what a network says in it: scores (F, N, C)."""
    if kind == "scenes":
        noise = replace(noise, right=max(noise.right, SCENE_RIGHT), wrong=max(noise.wrong, SCENE_WRONG))
    truth = simulate(noise, seed, THINGS, SECONDS)
    if kind == "scenes":
        return truth, probabilities(truth, seed).astype(np.float64)
    return truth, np.eye(noise.classes)[truth.labels] * truth.scores[..., None]


def shown_by_all(kind: Kind, times_s: Double, scores: Double) -> dict[str, Rows]:
    """What the pipeline shows with its defaults, and every plain way, (F, N) each; -1 where a scene is not named.

    Args:
        kind: what is smoothed.
        times_s: (F,)
        scores: (F, N, C) by label, of N things.
    """
    raw = scores.argmax(-1)
    plain = (raw, *(_window_mean(times_s, each).argmax(-1) for each in (np.eye(scores.shape[-1])[raw], scores)))
    ours = _labels if kind == "labels" else _scenes
    return {OURS: ours(times_s, scores), **dict(zip(PLAIN, plain, strict=True))}


def _window_mean(times_s: Double, values: Double) -> Double:
    """The sum of the values (F, ...) over WINDOW_S before each frame, it included."""
    sums = np.concatenate([np.zeros((1, *values.shape[1:])), values.cumsum(axis=0)])
    return np.asarray(sums[1:] - sums[np.searchsorted(times_s, times_s - WINDOW_S, side="right")])


def _labels(times_s: Double, scores: Double) -> Rows:
    smoother, ids = LabelSmoother(SmoothingSettings(), scores.shape[2]), np.arange(scores.shape[1])
    frames = zip(times_s.tolist(), scores.argmax(-1).astype(np.int32), scores.max(-1), strict=True)
    return np.array([smoother.update(time_s, ids, *frame)[0] for time_s, *frame in frames], np.int64)


def _scenes(times_s: Double, scores: Double) -> Rows:
    streams = [SceneSmoother(SmoothingSettings(), scores.shape[2]) for _ in range(scores.shape[1])]
    frames = zip(times_s.tolist(), scores, strict=True)
    return np.array(
        [[it.update(time_s, row)[1] for it, row in zip(streams, frame, strict=True)] for time_s, frame in frames],
        np.int64,
    )
