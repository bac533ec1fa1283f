"""The study: everything measured on simulated noise and on clips."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from engines.arrays import Double, Rows
from engines.spec import Model
from pipeline.settings.schema import SmoothingSettings
from tools.smoothing.filters import WINDOW_S, Kind, shown_by_all
from tools.smoothing.recording import RecordedClip, recorded
from tools.smoothing.scoring import NONE, Figures, agreement, count_changes, mean, score
from tools.smoothing.simulated import HARD, NOISES, Noise, Simulated, probabilities, simulate

SEEDS: Final = (201, 202)  # what is reported; looked at once all was chosen
THINGS: Final = 12
SECONDS: Final = 90.0
KINDS: Final[tuple[Kind, ...]] = ("labels", "scenes")
# A scene is named from a probability of 0.5 on: of weaker ones there would be nothing to see.
SCENE_RIGHT: Final = 0.6
SCENE_WRONG: Final = 0.5


class NoiseFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A filter on one kind of noise."""

    kind: Kind
    noise: str
    hard: bool  # where no filter can do everything
    filter: str
    figures: Figures


class ClipFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A filter on what the model saw in one clip."""

    clip: str
    kind: Kind
    filter: str
    minutes: float  # of all tracks, or of the clip
    flicker: float  # changes a minute
    agreement: float  # share of the frames with a label that show the one most raw labels of the track or clip are
    unnamed: float  # share of the frames without a label


class SmoothingStudy(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the pages show."""

    format: Literal[1] = 1
    model: str  # its fingerprint
    settings: SmoothingSettings
    window_s: float
    seeds: tuple[int, ...] = SEEDS
    things: int = THINGS
    seconds: float = SECONDS
    measured: tuple[NoiseFigures, ...]
    clips: tuple[ClipFigures, ...]


def steps(clips: list[Path]) -> int:
    """How many :func:`compare` takes."""
    return len(KINDS) * len((*NOISES, *HARD)) + len(clips) + 1


def compare(clips: list[Path], model: Model, work: Path) -> Iterator[SmoothingStudy | None]:
    """Do the study; None after each step, and the study at last.

    Args:
        clips: videos.
        model: whose labels and scenes they are.
        work: folder in which what the model saw is kept.
    """
    measured, on_clips = [], []
    for kind in KINDS:
        for noise in (*NOISES, *HARD):
            measured += _measure(kind, noise)
            yield None
    for clip in clips:
        on_clips += _on_clip(clip.stem, recorded(clip, model, work), len(model.spec.objects))
        yield None
    yield SmoothingStudy(
        model=model.fingerprint,
        settings=SmoothingSettings(),
        window_s=round(float(WINDOW_S), 3),
        measured=tuple(measured),
        clips=tuple(on_clips),
    )


def make(kind: Kind, noise: Noise, seed: int) -> tuple[Simulated, Double]:
    """One simulation, and what a network says in it: scores (F, N, C)."""
    if kind == "scenes":
        noise = replace(noise, right=max(noise.right, SCENE_RIGHT), wrong=max(noise.wrong, SCENE_WRONG))
        truth = simulate(noise, seed, THINGS, SECONDS)
        return truth, probabilities(truth, seed).astype(np.float64)
    truth = simulate(noise, seed, THINGS, SECONDS)
    return truth, one_hot(truth.labels, truth.scores, noise.classes)


def one_hot(labels: npt.NDArray[np.integer], scores: npt.NDArray[np.floating], classes: int) -> Double:
    """Scores of all labels (F, N, classes), of which only ``labels`` (F, N) have one."""
    return np.asarray((labels[..., None] == np.arange(classes)) * scores[..., None], np.float64)


def _measure(kind: Kind, noise: Noise) -> list[NoiseFigures]:
    found: dict[str, list[Figures]] = {}
    for seed in SEEDS:
        truth, scores = make(kind, noise, seed)
        for name, labels in shown_by_all(kind, truth.times_s, scores).items():
            found.setdefault(name, []).append(score(truth, labels))
    return [
        NoiseFigures(kind=kind, noise=noise.name, hard=noise in HARD, filter=name, figures=mean(each))
        for name, each in found.items()
    ]


def _on_clip(name: str, recording: RecordedClip, classes: int) -> list[ClipFigures]:
    tracks = []
    for track in np.unique(recording.ids):
        mine = recording.ids == track
        scores = one_hot(recording.labels[mine, None], recording.scores[mine, None], classes)
        tracks.append((recording.times_s[recording.frames[mine]], scores))
    clip = [(recording.times_s, recording.scenes[:, None].astype(np.float64))] if recording.scenes.size else []
    return [*_of_clip(name, "labels", tracks), *_of_clip(name, "scenes", clip)]


def _of_clip(name: str, kind: Kind, things: list[tuple[Double, Double]]) -> list[ClipFigures]:
    """Every filter over the tracks, or the scene, of a clip: times (F,) and scores (F, 1, C) of each."""
    minutes = sum(float(times_s[-1] - times_s[0]) for times_s, _ in things) / 60
    if minutes <= 0:
        return []
    frames = [len(times_s) for times_s, _ in things]
    usual = [int(np.bincount(scores[:, 0].argmax(axis=-1)).argmax()) for _, scores in things]
    labels: dict[str, list[Rows]] = {}
    for times_s, scores in things:
        for each, seen in shown_by_all(kind, times_s, scores).items():
            labels.setdefault(each, []).append(seen)
    return [
        ClipFigures(
            clip=name,
            kind=kind,
            filter=each,
            minutes=round(minutes, 3),
            flicker=round(sum(map(count_changes, seen)) / minutes, 2),
            agreement=round(float(np.average([*map(agreement, seen, usual)], weights=frames)), 4),
            unnamed=round(float(np.mean(np.concatenate(seen) == NONE)), 4),
        )
        for each, seen in labels.items()
    ]
