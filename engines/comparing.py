"""Two forms of an entry that saw the same pictures: what a task's ``compare.py`` is made of."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast

import numpy as np

from engines.arrays import Array, Double
from engines.boxes import iou_matrix
from engines.tasks import Task

Outputs = Mapping[str, Array]  # by name, batch first

COUNTED_SCORE: Final = 0.05  # rows below this are noise that nothing depends on, not even their order
BOX_PX: Final = 0.5
SCORE: Final = 1e-3
COSINE: Final = 0.9999


@dataclass(frozen=True, slots=True)
class Gap:
    """The greatest difference in something, or the least cosine."""

    value: float
    kind: Literal["pixels", "score", "cosine"]

    @property
    def holds(self) -> bool:
        """Whether it is within its limit; what is not a number is within none."""
        match self.kind:
            case "pixels":
                return self.value <= BOX_PX
            case "score":
                return self.value <= SCORE
            case "cosine":
                return self.value >= COSINE

    @property
    def summary(self) -> str:
        """The difference in words."""
        match self.kind:
            case "pixels":
                return f"within {self.value:.4f} px"
            case "score":
                return f"within {self.value:.1e}"
            case "cosine":
                return f"cosine at least {self.value:.6f}"

    def worse(self, other: "Gap") -> "Gap":
        """The larger of two differences of a kind; one that is not a number is the largest."""
        both = np.array([self.value, other.value])
        return Gap(float(both.min() if self.kind == "cosine" else both.max()), self.kind)


class ComparePart(Protocol):
    """``compare.py`` of a task."""

    def drift(self, reference: Outputs, other: Outputs) -> float:
        """What ``other`` has lost of the reference, from 0 (nothing) to 1 (everything)."""

    def gaps(self, reference: Outputs, other: Outputs) -> Mapping[str, Gap]:
        """The greatest differences, by what differs; those of one name are joined over the tasks."""


def compare_part(task: Task) -> ComparePart:
    """How a task's outputs are compared."""
    return cast("ComparePart", task.part("compare"))


def floats(outputs: Outputs, name: str) -> Double:
    """One of the outputs in double precision."""
    return outputs[name].astype(np.float64)


def share(value: float) -> float:
    """Clipped to [0, 1]; 1 for what is not a number."""
    return min(1.0, max(0.0, value)) if np.isfinite(value) else 1.0


def greatest(a: Array, b: Array) -> float:
    """The greatest difference between two arrays of a shape; not a number where one has something that is none."""
    return float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0.0))


def distance(reference: Outputs, other: Outputs, name: str) -> float:
    """The mean total variation distance of the probabilities (B, C) of one output."""
    return share(float((np.abs(floats(reference, name) - floats(other, name)).sum(axis=1) / 2).mean()))


def drift_of_rows(reference: Outputs, other: Outputs, kind: str) -> float:
    """1 less the agreement of the reference's rows, weighted by their scores; of "object" or "face" rows.

    A row agrees by the IoU with its best counterpart of the same label times the smaller of both scores over the
    greater.
    """
    agreed = weights = 0.0
    for picture, scores in enumerate(floats(reference, f"{kind}_scores")):
        rows = np.flatnonzero(scores >= COUNTED_SCORE)
        theirs = floats(other, f"{kind}_scores")[picture]
        if not len(rows):
            continue
        boxes, others = (each[f"{kind}_boxes"][picture].astype(np.float32) for each in (reference, other))
        agreement = iou_matrix(boxes[rows], others).astype(np.float64)
        if kind == "object":
            labels, their_labels = (each["object_labels"][picture] for each in (reference, other))
            agreement[labels[rows, None] != their_labels[None]] = 0.0
        least, most = (bound(scores[rows, None], theirs[None]) for bound in (np.minimum, np.maximum))
        best = np.nan_to_num(agreement * least / most, nan=0.0).max(axis=1)
        agreed += float((best * scores[rows]).sum())
        weights += float(scores[rows].sum())
    return share(1.0 - agreed / weights) if weights else 0.0


def row_differences(reference: Outputs, other: Outputs, kind: str, cut_at: int) -> tuple[float, float, float]:
    """Greatest differences of boxes (px), scores and landmarks (px) between each row and its counterpart.

    Rows whose scores are equal but for rounding may stand in another order, so the counterpart is the row of the same
    label whose box is nearest. ``cut_at`` is how many rows the entry gives of a picture.
    """
    worst = np.zeros(3)
    for picture in range(len(reference[f"{kind}_scores"])):
        scores = reference[f"{kind}_scores"][picture].astype(np.float64)
        weakest = COUNTED_SCORE
        if len(scores) == cut_at:  # a row as weak as the last one may have missed the cut elsewhere
            weakest = max(weakest, float(scores[-1]) + SCORE)
        rows = np.flatnonzero(~(scores < weakest))  # with those that are not numbers
        if not len(rows):
            continue
        boxes, others = (each[f"{kind}_boxes"][picture].astype(np.float64) for each in (reference, other))
        gaps = np.abs(boxes[rows, None] - others[None]).max(axis=2)
        if kind == "object":
            labels, theirs = (each["object_labels"][picture] for each in (reference, other))
            gaps[labels[rows, None] != theirs[None]] = np.inf
        match = gaps.argmin(axis=1)
        score_gap = np.abs(scores[rows] - other[f"{kind}_scores"][picture].astype(np.float64)[match]).max()
        points = 0.0
        if kind == "face":
            points = greatest(reference["face_landmarks"][picture][rows], other["face_landmarks"][picture][match])
        worst = np.maximum(worst, (gaps.min(axis=1).max(), score_gap, points))
    return float(worst[0]), float(worst[1]), float(worst[2])
