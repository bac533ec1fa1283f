"""The detections of a frame of each of some streams, as trackers take them, and those that they use."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.arrays import Double, Flags, Float, Labels, Rows
from pipeline.tracking.association import by_coordinate

ONE_DETECTION: Final = (0.25, 3.0)  # least and most that one detection says, in logarithms of odds
SCORES: Final = (0.001, 0.999)  # nothing is certain


@dataclass(frozen=True, slots=True)
class TrackerInput:
    """The detections of one kind in one frame."""

    boxes: Float  # (N, 4) xyxy source pixels; rows that are empty or not finite are passed over
    scores: Float  # (N,) in [0, 1]
    labels: Labels  # (N,) an equal label helps an association, another one does not forbid it
    appearance: Float | None = None  # (N, D) unit vectors: what each looks like; of all kinds, or of none


@dataclass(frozen=True, slots=True)
class FoundDetections:
    """The detections of all streams and kinds that are good enough to be used, in that order. M rows."""

    boxes: Double  # (4, M)
    scores: Double
    labels: Labels
    kinds: Rows
    streams: Rows  # the number of each, ascending
    rows: Rows  # in what was given, all together
    sure: Flags
    evidence: Double
    appearance: Double | None

    def __len__(self) -> int:
        return len(self.rows)


class ScoreThresholds:
    """From which scores on detections count, of each kind and label.

    Args:
        sure_scores: for each kind one for all labels, or one for each label, from which detections start tracks.
        low_score_ratio: share of their odds from which on detections carry tracks on.

    Attributes:
        lowest: for each kind, the lowest score that starts a track.
        kinds: how many there are.
    """

    def __init__(self, sure_scores: Sequence[float | Sequence[float]], low_score_ratio: float) -> None:
        by_label = [np.atleast_1d(np.asarray(each, np.float64)) for each in sure_scores]
        self._sure = np.concatenate(by_label)  # of all kinds, label after label
        self.lowest = [float(each.min()) for each in by_label]
        self._last_label = np.array([len(each) - 1 for each in by_label])
        self._first = np.concatenate([[0], np.cumsum(self._last_label + 1)[:-1]])  # of each kind in those scores
        self._least, self._even = low_score_threshold(self._sure, low_score_ratio), logit(self._sure)
        self.kinds, self._by_label = len(by_label), len(self._sure) > len(by_label)

    def usable(self, seen: Sequence[TrackerInput]) -> FoundDetections:
        """The detections that start tracks or carry them on, of all kinds of one stream, then of the next one."""
        boxes = by_coordinate(np.concatenate([one.boxes for one in seen]))
        scores = np.concatenate([one.scores for one in seen]).astype(np.float64)
        groups = np.arange(len(seen)).repeat([len(one.scores) for one in seen])
        streams = groups // self.kinds
        kinds = groups - streams * self.kinds
        labels = np.concatenate([one.labels for one in seen])
        place = kinds  # with one score for all labels of each kind
        if self._by_label:
            place = self._first.take(kinds) + np.minimum(labels, self._last_label.take(kinds))
        filled = boxes[:2] < boxes[2:]
        usable = filled[0] & filled[1]
        usable &= scores >= self._least.take(place)
        finite = np.isfinite(boxes)
        if np.count_nonzero(finite) < finite.size:
            usable &= finite.all(axis=0)
        (rows,) = usable.nonzero()
        if len(rows) < len(scores):
            boxes, scores, labels = boxes.take(rows, 1), scores.take(rows), labels.take(rows)
            kinds, place, streams = kinds.take(rows), place.take(rows), streams.take(rows)
        evidence = logit(scores)
        evidence -= self._even.take(place)
        np.maximum(evidence, ONE_DETECTION[0], out=evidence)
        return FoundDetections(
            boxes=boxes,
            scores=scores,
            labels=labels,
            kinds=kinds,
            streams=streams,
            rows=rows,
            sure=scores >= self._sure.take(place),
            evidence=np.minimum(evidence, ONE_DETECTION[1], out=evidence),
            appearance=_appearance(seen, rows),
        )


def low_score_threshold(sure: Double, share: float) -> Double:
    """The scores with ``share`` of the odds of each of the scores ``sure``: from there on tracks are carried on."""
    return np.asarray(share * sure / np.maximum(1.0 - sure + share * sure, np.finfo(np.float64).tiny), np.float64)


def _appearance(seen: Sequence[TrackerInput], rows: Rows) -> Double | None:
    appearance = [one.appearance for one in seen if one.appearance is not None]
    return np.concatenate(appearance)[rows].astype(np.float64) if len(appearance) == len(seen) else None


def logit(scores: Double) -> Double:
    """The logarithms of the odds of scores (N,), of which none is taken to be certain."""
    sure = np.minimum(np.maximum(scores, SCORES[0]), SCORES[1])
    return np.asarray(np.log(sure / (1.0 - sure)), np.float64)
