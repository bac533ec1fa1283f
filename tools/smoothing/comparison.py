"""The comparison: candidates tuned on some seeds, and everything measured on others and on clips."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from engines.spec import Model
from pipeline.config import SmoothingSettings
from tools.smoothing.candidates import (
    CANDIDATES,
    NO_SMOOTHING,
    OURS,
    PLAIN,
    WINDOW_S,
    Candidate,
    Kind,
    shown,
    shown_by_ours,
)
from tools.smoothing.filters import Double, Rows
from tools.smoothing.recording import Recording, recorded
from tools.smoothing.scoring import NONE, Figures, agreement, count_changes, mean, score
from tools.smoothing.simulated import HARD, NOISES, Noise, Simulated, probabilities, simulate

TUNING_SEEDS: Final = (5,)
SEEDS: Final = (201, 202)  # what is reported; looked at once all was chosen
THINGS: Final = 12
SECONDS: Final = 90.0
KINDS: Final[tuple[Kind, ...]] = ("labels", "scenes")
# A scene is named from a probability of 0.5 on: of weaker ones there would be nothing to see.
SCENE_RIGHT: Final = 0.6
SCENE_WRONG: Final = 0.5

FLICKER_FLOOR: Final = 0.1  # of the flicker without smoothing
DELAY_FLOOR_S: Final = 0.5


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A filter on one kind of noise."""

    kind: Kind
    noise: str
    hard: bool  # where no filter can do everything
    filter: str
    figures: Figures

    @property
    def case(self) -> tuple[str, str]:
        return self.kind, self.noise


class Tuned(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a candidate that did best on the tuning seeds, of so many."""

    kind: Kind
    filter: str
    settings: dict[str, float]
    tried: int


class Clip(msgspec.Struct, frozen=True, kw_only=True):
    """A filter on what the model saw in one clip."""

    clip: str
    kind: Kind
    filter: str
    minutes: float  # of all tracks, or of the clip
    flicker: float  # changes a minute
    agreement: float  # share of the frames with a label that show the one most raw labels of the track or clip are
    unnamed: float  # share of the frames without a label


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the pages show."""

    format: Literal[1] = 1
    model: str  # its fingerprint
    settings: SmoothingSettings
    window_s: float
    tuning_seeds: tuple[int, ...] = TUNING_SEEDS
    seeds: tuple[int, ...] = SEEDS
    things: int = THINGS
    seconds: float = SECONDS
    tuned: tuple[Tuned, ...]
    measured: tuple[Measured, ...]
    clips: tuple[Clip, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """A simulation, and what a network says in it: scores (F, N, C)."""

    truth: Simulated
    scores: Double


class Comparison:
    """The study, step by step.

    Args:
        clips: videos.
        model: whose labels and scenes they are.
        work: folder in which what the model saw is kept.
    """

    def __init__(self, clips: list[Path], model: Model, work: Path) -> None:
        self._clips, self._model, self._work = clips, model, work
        self._cases = [(kind, noise) for kind in KINDS for noise in (*NOISES, *HARD)]
        self.steps = len(KINDS) * len(CANDIDATES) + len(self._cases) + len(clips)

    def run(self) -> Iterator[Study | None]:
        """Do it; None after each step, and the study at last."""
        tuned, measured, on_clips = [], [], []
        for kind, name in product(KINDS, CANDIDATES):
            tuned.append(_tune(kind, name))
            yield None
        for kind, noise in self._cases:
            measured += _measure(kind, noise, tuned)
            yield None
        for clip in self._clips:
            recording = recorded(clip, self._model, self._work)
            on_clips += _on_clip(clip.stem, recording, len(self._model.spec.objects), tuned)
            yield None
        yield Study(
            model=self._model.fingerprint,
            settings=SmoothingSettings(),
            window_s=round(float(WINDOW_S), 3),
            tuned=tuple(tuned),
            measured=tuple(measured),
            clips=tuple(on_clips),
        )


def make(kind: Kind, noise: Noise, seed: int) -> Made:
    """The scores of one simulation."""
    if kind == "scenes":
        noise = replace(noise, right=max(noise.right, SCENE_RIGHT), wrong=max(noise.wrong, SCENE_WRONG))
        truth = simulate(noise, seed, THINGS, SECONDS)
        return Made(truth, probabilities(truth, seed).astype(np.float64))
    truth = simulate(noise, seed, THINGS, SECONDS)
    return Made(truth, one_hot(truth.labels, truth.scores, noise.classes))


def one_hot(labels: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], classes: int) -> Double:
    """Scores of all labels (F, N, classes), of which only ``labels`` (F, N) have one."""
    return np.asarray((labels[..., None] == np.arange(classes)) * scores[..., None], np.float64)


def _tune(kind: Kind, name: str) -> Tuned:
    candidate = CANDIDATES[name]
    grid = candidate.grid
    badness = np.zeros((len(grid), 2))
    for noise, seed in product(NOISES, TUNING_SEEDS):
        made = make(kind, noise, seed)
        plain = {each: score(made.truth, _alone(each, made)) for each in PLAIN}
        for row, labels in enumerate(_over(candidate, grid, made)):
            badness[row] += _badness(score(made.truth, labels), plain)
    best = min(range(len(grid)), key=lambda row: tuple(badness[row]))
    return Tuned(kind=kind, filter=name, settings=grid[best], tried=len(grid))


def _badness(found: Figures, plain: dict[str, Figures]) -> tuple[float, float]:
    """By how much the floors are missed, in shares of them; and the wrong time in shares of the best plain way's."""
    wrong = found.wrong / min(each.wrong for each in plain.values())
    flicker = found.flicker / (FLICKER_FLOOR * plain[NO_SMOOTHING].flicker)
    missed = (max(0.0, share - 1.0) for share in (wrong, flicker, found.delay_p95_s / DELAY_FLOOR_S))
    return round(sum(missed), 2), wrong


def _over(candidate: Candidate, grid: list[dict[str, float]], made: Made) -> Rows:
    """What a candidate shows with each setting: (P, F, N)."""
    frames = shown(candidate.with_all(grid), made.truth.times_s, made.scores)
    return np.stack([np.broadcast_to(each, (len(grid), made.scores.shape[1])) for each in frames], axis=1)


def _alone(name: str, made: Made) -> Rows:
    return np.stack([each[0] for each in shown(PLAIN[name](), made.truth.times_s, made.scores)])


def _measure(kind: Kind, noise: Noise, tuned: list[Tuned]) -> list[Measured]:
    found: dict[str, list[Figures]] = {}
    for seed in SEEDS:
        made = make(kind, noise, seed)
        for name, labels in _everything(kind, made.truth.times_s, made.scores, tuned).items():
            found.setdefault(name, []).append(score(made.truth, labels))
    return [
        Measured(kind=kind, noise=noise.name, hard=noise in HARD, filter=name, figures=mean(each))
        for name, each in found.items()
    ]


def _everything(kind: Kind, times_s: Double, scores: Double, tuned: list[Tuned]) -> dict[str, Rows]:
    """What every filter shows, (F, N) each; scores are (F, N, C)."""
    filters = {name: build() for name, build in PLAIN.items()}
    filters |= {each.filter: CANDIDATES[each.filter].with_all([each.settings]) for each in tuned if each.kind == kind}
    found = {name: np.stack([each[0] for each in shown(it, times_s, scores)]) for name, it in filters.items()}
    return {OURS: shown_by_ours(kind, times_s, scores)} | found


def _on_clip(name: str, recording: Recording, classes: int, tuned: list[Tuned]) -> list[Clip]:
    tracks = []
    for track in np.unique(recording.ids):
        mine = recording.ids == track
        scores = one_hot(recording.labels[mine, None], recording.scores[mine, None], classes)
        tracks.append((recording.times_s[recording.frames[mine]], scores))
    clip = [(recording.times_s, recording.scenes[:, None].astype(np.float64))] if recording.scenes.size else []
    return [*_of_clip(name, "labels", tracks, tuned), *_of_clip(name, "scenes", clip, tuned)]


def _of_clip(name: str, kind: Kind, things: list[tuple[Double, Double]], tuned: list[Tuned]) -> list[Clip]:
    """Every filter over the tracks, or the scene, of a clip: times (F,) and scores (F, 1, C) of each."""
    changes: dict[str, int] = {}
    labels: dict[str, list[Rows]] = {}
    agreeing: dict[str, list[float]] = {}
    for times_s, scores in things:
        usual = int(np.bincount(scores[:, 0].argmax(axis=-1)).argmax())
        for each, seen in _everything(kind, times_s, scores, tuned).items():
            changes[each] = changes.get(each, 0) + count_changes(seen)
            labels.setdefault(each, []).append(seen[:, 0])
            agreeing.setdefault(each, []).append(agreement(seen[:, 0], usual))
    minutes = sum(float(times_s[-1] - times_s[0]) for times_s, _ in things) / 60
    frames = [len(times_s) for times_s, _ in things]
    return [
        Clip(
            clip=name,
            kind=kind,
            filter=each,
            minutes=round(minutes, 3),
            flicker=round(changes[each] / minutes, 2),
            agreement=round(float(np.average(agreeing[each], weights=frames)), 4),
            unnamed=round(float(np.mean(np.concatenate(labels[each]) == NONE)), 4),
        )
        for each in changes
        if minutes > 0
    ]
