"""Scenes: accuracy and calibration of the scene probabilities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np

from engines.arrays import Double, Flags, Float, Rows
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation.bootstrap import Interval, percentile_interval, resample, weighted_mean
from engines.evaluation.confusion import confusion_matrix
from engines.evaluation.detection import WORST
from engines.evaluation.parts import CardRow
from engines.evaluation.reliability import ECE_BINS, calibration_errors
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import Truth
from engines.scenes import grouped, likeliest


class WorstScene(msgspec.Struct, frozen=True, kw_only=True):
    """One of the most confident wrong answers."""

    picture: str
    label: str
    predicted: str
    probability: float


class SceneScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well the kind of scene is told, and how far its probabilities can be believed."""

    top1: float
    top5: float
    group_top1: float | None = None  # of kinds of place, "none of these" among them; None: the model tells scenes
    ece: float  # expected calibration error
    ece_bins: int
    intervals: dict[str, Interval | None]  # by figure
    top1_by_label: dict[str, float]
    labels: list[str]  # of the rows and columns of the confusion matrix
    confusion: list[list[int]]  # pictures, by true label (row) and predicted label (column)
    pictures: int
    worst: list[WorstScene]  # the most confident first
    skipped: list[str]


@dataclass(frozen=True)
class SceneEvidence:
    """P pictures and the probabilities of the C scenes that the model gives each."""

    pictures: list[Path]
    probabilities: Float  # (P, C)
    target: Rows  # (P,) the true scene
    labels: tuple[str, ...]  # (C,)
    skipped: list[str]
    group_hit: Flags | None = None  # (P,) whether the likeliest group of all scenes is the true one; None: no groups

    @cached_property
    def predicted(self) -> Rows:
        """(P,) the scene with the largest probability."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)

    @cached_property
    def hit(self) -> Flags:
        """(P,) whether that is the true one."""
        return np.asarray(self.predicted == self.target, np.bool_)

    @cached_property
    def confidence(self) -> Double:
        """(P,) its probability."""
        return np.asarray(self.probabilities.max(axis=1), np.float64)


def gather(runner: ModelRunner, truth: Truth) -> SceneEvidence:
    """Run the model over whole, letterboxed pictures. It chooses among the scenes that the pictures show alone.

    Raises:
        DataError: too many pictures cannot be read, or one shows a scene that the model does not know.
    """
    assert truth.scene is not None
    found = tell_scenes(runner, {path: label for label, path in truth.scene})
    shown = {label for label, _ in truth.scene}
    return among_labels(found, [label for label in found.labels if label in shown])


def tell_scenes(runner: ModelRunner, scenes: Mapping[Path, str]) -> SceneEvidence:
    """Run the model over whole, letterboxed pictures, each with the scene that it shows.

    Raises:
        DataError: too many pictures cannot be read, or one shows a scene that the model does not know.
    """
    known = runner.model.spec.scenes
    labels = {path: _label(name, known) for path, name in scenes.items()}
    skipped = SkippedRows()
    seen, rows = [], []
    for picture in runner.see("scene", list(labels), runner.model.spec.thresholds, skipped):
        seen.append(picture.path)
        rows.append(picture.detections.scene)
    target = np.array([labels[path] for path in seen], np.int64)
    probabilities, groups = np.stack(rows), runner.model.spec.scene_groups
    hit = None
    if groups:
        of_scene = {scene: row for row, group in enumerate(groups) for scene in group.scenes}
        wanted = np.array([of_scene.get(known[label], -1) for label in target.tolist()], np.int64)
        if (wanted >= 0).all():
            hit = np.asarray(likeliest(grouped(probabilities, groups, known), groups) == wanted, np.bool_)
    return SceneEvidence(seen, probabilities, target, known, skipped.rows, hit)


def _label(name: str, scenes: tuple[str, ...]) -> int:
    if name not in scenes:
        raise DataError(f"the data has a scene that the model does not know: {name}")
    return scenes.index(name)


def among_labels(evidence: SceneEvidence, labels: Sequence[str]) -> SceneEvidence:
    """The same pictures where the model may choose among these ``labels`` alone, all of the pictures' own included."""
    columns = [evidence.labels.index(name) for name in labels]
    chosen = evidence.probabilities[:, columns]
    places = {column: place for place, column in enumerate(columns)}
    target = np.array([places[column] for column in evidence.target.tolist()], np.int64)
    return replace(
        evidence,
        probabilities=chosen / np.maximum(chosen.sum(axis=1, keepdims=True), np.finfo(np.float32).tiny),
        target=target,
        labels=tuple(labels),
    )


def score(evidence: SceneEvidence) -> SceneScores:
    """The figures of the scenes that were told."""
    confusion = confusion_matrix(evidence.target, evidence.predicted, len(evidence.labels))
    among_5 = among_top(evidence.probabilities, evidence.target, 5)
    return SceneScores(
        top1=float(evidence.hit.mean()),
        top5=float(among_5.mean()),
        group_top1=None if evidence.group_hit is None else float(evidence.group_hit.mean()),
        ece=float(calibration_errors(evidence.confidence, evidence.hit, np.ones((1, len(evidence.hit))))[0]),
        ece_bins=ECE_BINS,
        intervals=_intervals(evidence, among_5),
        top1_by_label={
            label: float(row[index] / row.sum())
            for index, (label, row) in enumerate(zip(evidence.labels, confusion, strict=True))
            if row.any()
        },
        labels=list(evidence.labels),
        confusion=confusion.tolist(),
        pictures=len(evidence.pictures),
        worst=worst_scenes(evidence),
        skipped=evidence.skipped,
    )


def _intervals(evidence: SceneEvidence, among_5: Flags) -> dict[str, Interval | None]:
    weights = resample(len(evidence.pictures))
    of_groups = {}
    if evidence.group_hit is not None:
        of_groups["group_top1"] = percentile_interval(weighted_mean(evidence.group_hit, weights))
    return {
        **of_groups,
        "top1": percentile_interval(weighted_mean(evidence.hit, weights)),
        "top5": percentile_interval(weighted_mean(among_5, weights)),
        "ece": percentile_interval(calibration_errors(evidence.confidence, evidence.hit, weights)),
    }


def among_top(probabilities: Float, target: Rows, k: int) -> Flags:
    """Whether the ``target`` (N,) class of each row of ``probabilities`` (N, C) is among its ``k`` largest: (N,)."""
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
    return np.asarray((best == target[:, None]).any(axis=1), np.bool_)


def worst_scenes(evidence: SceneEvidence) -> list[WorstScene]:
    """The most confident wrong answers."""
    wrong = np.flatnonzero(~evidence.hit)
    return [
        WorstScene(
            picture=str(evidence.pictures[row]),
            label=evidence.labels[evidence.target[row]],
            predicted=evidence.labels[evidence.predicted[row]],
            probability=float(evidence.confidence[row]),
        )
        for row in wrong[np.argsort(-evidence.confidence[wrong], kind="stable")][:WORST].tolist()
    ]


def rows(scores: SceneScores) -> list[CardRow]:
    """The figures of the model card."""
    of_groups = ("kind of place, top-1", scores.group_top1, scores.intervals.get("group_top1"))
    return [
        *([of_groups] if scores.group_top1 is not None else []),
        ("scene top-1", scores.top1, scores.intervals.get("top1")),
        ("scene top-5", scores.top5, scores.intervals.get("top5")),
        ("scene ECE", scores.ece, scores.intervals.get("ece")),
    ]


def worst(scores: SceneScores) -> dict[str, list[tuple[str, ...]]]:
    """The most confident wrong answers."""
    return {"scene": [(each.picture,) for each in scores.worst]}
