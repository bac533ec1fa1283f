"""The detections that a tracker is given, and which of them it can use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.arrays import Double, Flags, Float, Labels, Rows
from pipeline.tracking.association import by_coordinate

ONE_DETECTION: Final = (0.25, 3.0)  # least and most evidence of a track that one detection is
SCORES: Final = (0.001, 0.999)  # nothing is certain


@dataclass(frozen=True, slots=True)
class TrackerInput:
    """The detections of one kind in one frame."""

    boxes: Float  # (N, 4) xyxy source pixels; rows that are empty or not finite are passed over
    scores: Float  # (N,) in [0, 1]
    labels: Labels  # (N,) an equal label helps an association, another one does not forbid it
    appearance: Float | None = None  # (N, D) unit vectors: what each looks like; of all kinds, or of none


@dataclass(frozen=True, slots=True)
class UsableDetections:
    """The detections of all kinds that are good enough to be used. M rows."""

    boxes: Double  # (4, M)
    scores: Double
    labels: Labels
    kinds: Rows
    rows: Rows  # in what was given
    sure: Flags
    evidence: Double  # that a track is there, in logarithms of odds
    appearance: Double | None


class DetectionFilter:
    """Chooses by score what starts tracks and what carries them on.

    Args:
        sure_scores: one for each kind of thing; detections from this score on are sure.
        low_score_ratio: share of a sure score's odds from which on detections are used at all.
    """

    def __init__(self, sure_scores: Sequence[float], low_score_ratio: float) -> None:
        self._sure = np.array(sure_scores, np.float64)
        self._least = low_score_threshold(self._sure, low_score_ratio)
        self._even = _logit(self._sure)
        self._kinds = np.arange(len(sure_scores))

    def sure_of_any(self, seen: Sequence[TrackerInput]) -> bool:
        """Return whether there is a sure detection of any kind."""
        # In double precision, as everywhere; fmax passes over what is not a number.
        best = [float(np.fmax.reduce(one.scores, initial=0.0)) for one in seen]
        return any(score >= sure for score, sure in zip(best, self._sure.tolist(), strict=True))

    def usable(self, seen: Sequence[TrackerInput]) -> UsableDetections:
        """Return the detections of all kinds that are whole and likely enough."""
        boxes = by_coordinate(np.concatenate([one.boxes for one in seen]))
        scores = np.concatenate([one.scores for one in seen]).astype(np.float64)
        kinds = np.repeat(self._kinds, [len(one.scores) for one in seen])
        usable = (boxes[0] < boxes[2]) & (boxes[1] < boxes[3]) & (scores >= self._least[kinds])
        if not np.isfinite(boxes).all():
            usable &= np.isfinite(boxes).all(axis=0)
        (rows,) = usable.nonzero()
        likely, kinds = scores[rows], kinds[rows]
        evidence = _logit(likely) - self._even[kinds]
        return UsableDetections(
            boxes=boxes.take(rows, 1),
            scores=likely,
            labels=np.concatenate([one.labels for one in seen])[rows],
            kinds=kinds,
            rows=rows,
            sure=likely >= self._sure[kinds],
            evidence=np.minimum(np.maximum(evidence, ONE_DETECTION[0]), ONE_DETECTION[1]),
            appearance=_appearance(seen, rows),
        )


def low_score_threshold(sure: Double, share: float) -> Double:
    """Return the scores from which on tracks are carried on: with ``share`` of the odds of each score ``sure``."""
    return np.asarray(share * sure / np.maximum(1.0 - sure + share * sure, np.finfo(np.float64).tiny), np.float64)


def _appearance(seen: Sequence[TrackerInput], rows: Rows) -> Double | None:
    appearance = [one.appearance for one in seen if one.appearance is not None]
    return np.concatenate(appearance)[rows].astype(np.float64) if len(appearance) == len(seen) else None


def _logit(scores: Double) -> Double:
    sure = np.minimum(np.maximum(scores, SCORES[0]), SCORES[1])
    return np.asarray(np.log(sure / (1.0 - sure)), np.float64)
