"""Labels of faces: balanced accuracy, since one of them is often much more frequent than the others."""

from dataclasses import dataclass
from functools import cached_property

import msgspec
import numpy as np

from engines.arrays import Double, Float, Rows
from engines.data.crops import LabelledCrop
from engines.data.reading import SkippedRows
from engines.errors import DataError
from engines.evaluation.bootstrap import Interval, percentile_interval, resample, weighted_mean
from engines.evaluation.confusion import confusion_matrix
from engines.evaluation.detection import WORST
from engines.evaluation.parts import CardRow
from engines.evaluation.runner import ModelRunner
from engines.evaluation.truth import Truth
from engines.tasks.base import Task
from engines.tasks.face_labels.truth import FaceLabelTruth


class WorstFaceLabel(msgspec.Struct, frozen=True, kw_only=True):
    """One of the most confident wrong answers."""

    picture: str
    box: tuple[float, float, float, float] | None  # xyxy of the face
    label: str
    predicted: str
    probability: float


class FaceLabelScores(msgspec.Struct, frozen=True, kw_only=True):
    """How well it is told which label a face has."""

    balanced_accuracy: float  # mean of the recalls of the labels that there are
    accuracy: float
    recall_by_label: dict[str, float]
    intervals: dict[str, Interval | None]  # by figure; pictures are drawn, not faces
    labels: list[str]  # of the rows and columns of the confusion matrix
    confusion: list[list[int]]  # faces, by true label (row) and predicted label (column)
    faces: int
    pictures: int
    worst: list[WorstFaceLabel]  # the most confident first
    skipped: list[str]


@dataclass(frozen=True)
class FaceLabelEvidence:
    """N faces and the probabilities of the labels that the model gives each."""

    labels: tuple[str, ...]  # L
    crops: list[LabelledCrop]
    probabilities: Float  # (N, L)
    target: Rows  # (N,)
    skipped: list[str]

    @cached_property
    def predicted(self) -> Rows:
        """(N,) the label with the largest probability."""
        return np.asarray(self.probabilities.argmax(axis=1), np.int64)


def balanced_accuracy(target: Rows, correct: Double, weights: Double) -> Double:
    """Mean over the labels of the share of their faces that is told right (Brodersen et al., ICPR 2010).

    Args:
        target: (N,) the true labels.
        correct: (N,) 1 where it is told right, else 0.
        weights: (R, N) how often each face counts, in each of R resamples.

    Returns:
        (R,) in [0, 1]; a label that a resample does not have is left out of its mean.
    """
    recalls = [weighted_mean(correct[target == label], weights[:, target == label]) for label in np.unique(target)]
    table = np.stack(recalls, axis=1)
    return weighted_mean(table, np.ones_like(table))


def score(evidence: FaceLabelEvidence) -> FaceLabelScores:
    """The figures of the labels that were told."""
    target, predicted = evidence.target, evidence.predicted
    correct = np.asarray(target == predicted, np.float64)
    files, place = np.unique([str(crop.file) for crop in evidence.crops], return_inverse=True)
    weights = resample(len(files))[:, place]  # faces of one picture are drawn together
    confusion = confusion_matrix(target, predicted, len(evidence.labels))
    once = np.ones((1, len(target)))
    return FaceLabelScores(
        balanced_accuracy=float(balanced_accuracy(target, correct, once)[0]),
        accuracy=float(correct.mean()),
        recall_by_label={
            label: float(row[number] / row.sum())
            for number, (label, row) in enumerate(zip(evidence.labels, confusion, strict=True))
            if row.any()
        },
        intervals={
            "balanced_accuracy": percentile_interval(balanced_accuracy(target, correct, weights)),
            "accuracy": percentile_interval(weighted_mean(correct, weights)),
        },
        labels=list(evidence.labels),
        confusion=confusion.tolist(),
        faces=len(target),
        pictures=len(files),
        worst=_worst(evidence),
        skipped=evidence.skipped,
    )


def _worst(evidence: FaceLabelEvidence) -> list[WorstFaceLabel]:
    wrong = np.flatnonzero(evidence.target != evidence.predicted)
    sure = evidence.probabilities.max(axis=1)
    return [
        WorstFaceLabel(
            picture=str(evidence.crops[row].file),
            box=evidence.crops[row].box,
            label=evidence.crops[row].label,
            predicted=evidence.labels[evidence.predicted[row]],
            probability=float(sure[row]),
        )
        for row in wrong[np.argsort(-sure[wrong], kind="stable")][:WORST].tolist()
    ]


@dataclass(frozen=True)
class FaceLabelMetrics:
    """The figures of a task."""

    task: Task

    def gather(self, runner: ModelRunner, truth: Truth) -> FaceLabelEvidence:
        """Run the face entry over the labelled faces.

        Raises:
            DataError: too many pictures cannot be read, or there is no face.
        """
        name, labels = self.task.name, self.task.labels
        found = truth.others[name]
        assert isinstance(found, FaceLabelTruth)
        skipped = SkippedRows()
        seen = list(runner.say_of_faces(name, found.crops, self.task.outputs[0], skipped))
        if not seen:
            raise DataError(f"{truth.name}: has no face with a label of the task {name}")
        target = np.array([labels.index(crop.label) for crop, _ in seen], np.int64)
        rows = [*truth.skipped.get(name, ()), *skipped.rows]
        return FaceLabelEvidence(labels, [crop for crop, _ in seen], np.stack([row for _, row in seen]), target, rows)

    def score(self, evidence: FaceLabelEvidence) -> FaceLabelScores:
        """The figures of what it found."""
        return score(evidence)

    def rows(self, scores: FaceLabelScores) -> list[CardRow]:
        """The figures of the model card."""
        return [
            (f"{self.task.name}, balanced accuracy", scores.balanced_accuracy, scores.intervals["balanced_accuracy"])
        ]

    def worst(self, scores: FaceLabelScores) -> dict[str, list[tuple[str, ...]]]:
        """The most confident wrong answers."""
        return {self.task.name: [(each.picture,) for each in scores.worst]}


def of(task: Task) -> FaceLabelMetrics:
    """What ``metrics`` of a task's folder has."""
    return FaceLabelMetrics(task)
