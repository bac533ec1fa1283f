"""Labels over time: single frames flicker, tracks and scenes do not."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from engines.boxes import Double, Float
from pipeline.config import SmoothingSettings
from pipeline.types import Identified, Result

Labels = npt.NDArray[np.int32]
Ids = npt.NDArray[np.int64]

NO_TRACK = np.iinfo(np.int64).max  # beyond every id: whatever is looked up finds a row
MIN_PROBABILITY = 1e-4  # a scene that one frame rules out can come back
SCENE_CONFIDENCE = 0.5  # a scene is named from this smoothed probability on


class LabelSmoother:
    """The label of each track as a decaying mean over its detections; pure state, times are stream time.

    The confidence of a label is the mean of its scores, 0 where the detection bore another label, in which a
    detection counts half as much after ``half_life_s``. A label is replaced when another one has led by ``margin``,
    as a share of all the evidence, for ``hold_s``.
    """

    def __init__(self, settings: SmoothingSettings, classes: int) -> None:
        self._settings = settings
        self._ids: Ids = np.array([NO_TRACK])  # ascending, and a last row for none; row by row with all below
        self._evidence = np.zeros((1, classes))  # fading sum of the scores, by label
        self._total = np.zeros(1)  # of a row of it
        self._weight = np.zeros(1)  # fading number of detections
        self._time_s = np.zeros(1)
        self._label: Labels = np.zeros(1, np.int32)
        self._rival: Labels = np.zeros(1, np.int32)  # who leads enough, or the label itself
        self._led_s = np.zeros(1)  # for how long

    def update(self, time_s: float, ids: Ids, labels: Labels, scores: Float) -> tuple[Labels, Float]:
        """Take one detection of each of the tracks ``ids`` (T,), each id once.

        Args:
            time_s: stream time; a step back counts as no time at all.
            ids: (T,) track ids.
            labels: (T,) raw label of each detection.
            scores: (T,) its score in [0, 1].

        Returns:
            Smoothed labels (T,) and their confidence (T,) in [0, 1].
        """
        rows = self._rows(time_s, ids, labels)
        step = np.maximum(time_s - self._time_s[rows], 0.0)
        self._time_s[rows] = time_s
        fading = 0.5 ** (step / self._settings.half_life_s)
        evidence = self._evidence[rows] * fading[:, None]
        evidence[np.arange(len(rows)), labels] += scores
        self._evidence[rows] = evidence
        self._weight[rows] = weight = self._weight[rows] * fading + 1.0
        self._total[rows] = total = self._total[rows] * fading + scores
        smoothed = self._elect(rows, step, evidence, total)
        confidence = evidence[np.arange(len(rows)), smoothed] / weight
        return smoothed, confidence.astype(np.float32)

    def forget(self, ids: Ids) -> None:
        """Drop tracks that ended."""
        if len(ids):
            self._arrange(np.flatnonzero(~np.isin(self._ids, ids)))

    def _elect(self, rows: Ids, step: Double, evidence: Double, total: Double) -> Labels:
        """The label of each row, with this detection."""
        every, current = np.arange(len(rows)), self._label[rows]
        best = evidence.argmax(axis=1).astype(np.int32)
        # Of the evidence, not of the scores: a cautious network's labels must be able to change, too.
        lead = (evidence[every, best] - evidence[every, current]) / np.maximum(total, 1e-9)
        rival = np.where(lead >= self._settings.margin, best, current)
        stays = (rival != current) & (rival == self._rival[rows])
        led_s = np.where(stays, self._led_s[rows] + step, 0.0)
        elected = np.where(led_s >= self._settings.hold_s, rival, current)
        self._rival[rows], self._led_s[rows], self._label[rows] = rival, led_s, elected
        return elected

    def _rows(self, time_s: float, ids: Ids, labels: Labels) -> Ids:
        """The row of each track; new ones get one."""
        rows = self._ids.searchsorted(ids)
        fresh = np.flatnonzero(self._ids[rows] != ids)
        if not len(fresh):
            return rows
        at, born = len(self._ids), ids[fresh]
        self._arrange(np.concatenate([np.arange(at), np.full(len(fresh), at - 1)]))
        self._ids[at:], self._time_s[at:] = born, time_s
        self._label[at:] = self._rival[at:] = labels[fresh]
        self._arrange(np.argsort(self._ids))
        return self._ids.searchsorted(ids)

    def _arrange(self, rows: Ids) -> None:
        """Take these rows of everything, in this order."""
        self._ids, self._evidence, self._total = self._ids[rows], self._evidence[rows], self._total[rows]
        self._weight, self._time_s, self._label = self._weight[rows], self._time_s[rows], self._label[rows]
        self._rival, self._led_s = self._rival[rows], self._led_s[rows]


class SceneSmoother:
    """The scene of a stream; pure state, times are stream time.

    Probabilities are pooled as decaying means of their logarithms (a logarithmic opinion pool: Genest and Zidek,
    "Combining Probability Distributions", Statistical Science 1(1), 1986), so that frames that tell the same thing do
    not add up to false certainty. A scene is named when it has been probable enough, and ahead of the present one by
    ``margin``, for ``hold_s``; its name goes when it is ``margin`` below what naming takes.
    """

    def __init__(self, settings: SmoothingSettings, classes: int) -> None:
        self._settings = settings
        self._evidence = np.zeros(classes)
        self._weight = 0.0
        self._time_s: float | None = None
        self._label = -1
        self._rival = -1
        self._led_s = 0.0

    def update(self, time_s: float, probabilities: Float) -> tuple[Float, int]:
        """Take one frame's ``probabilities`` (C,); smoothed ones (C,) and the label, -1 for none."""
        if not len(probabilities):
            return probabilities, -1
        step = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        fading = 0.5 ** (step / self._settings.half_life_s)
        self._evidence = self._evidence * fading + np.log(probabilities.astype(np.float64).clip(min=MIN_PROBABILITY))
        self._weight = self._weight * fading + 1.0
        pooled = np.exp(self._evidence / self._weight)
        pooled /= pooled.sum()
        self._elect(step, pooled)
        return pooled.astype(np.float32), self._label

    def _elect(self, step: float, pooled: npt.NDArray[np.float64]) -> None:
        current = float(pooled[self._label]) if self._label >= 0 else -math.inf
        best = int(pooled.argmax())
        leads = pooled[best] >= max(SCENE_CONFIDENCE, current + self._settings.margin)
        rival = best if leads else self._label
        stays = rival != self._label and rival == self._rival
        self._led_s = self._led_s + step if stays else 0.0
        self._rival = rival
        if rival != self._label and self._led_s >= self._settings.hold_s:
            self._label = rival
        elif self._label >= 0 and current < SCENE_CONFIDENCE - self._settings.margin:
            self._label = -1


class StreamSmoother:
    """The smoothed labels and the smoothed scene of one stream."""

    def __init__(self, settings: SmoothingSettings, objects: int, scenes: int) -> None:
        self._labels = LabelSmoother(settings, objects)
        self._scene = SceneSmoother(settings, scenes)
        self._last: Result | None = None

    def update(self, item: Identified) -> Result:
        """Finish one frame; frames of the stream come in order."""
        time_s, tracks = item.frame.time_s, item.tracked.objects
        if item.tracked.observed.carried and self._last is not None:
            last = self._last  # the same detections once more are no further evidence
            if np.array_equal(tracks.ids, last.identified.tracked.objects.ids):
                return replace(last, identified=item, finished_ns=time.monotonic_ns())
        self._labels.forget(tracks.ended)
        labels, scores = self._labels.update(time_s, tracks.ids, tracks.labels, tracks.scores)
        scene, scene_label = self._scene.update(time_s, item.tracked.observed.detections.scene)
        self._last = Result(item, labels, scores, scene, scene_label, time.monotonic_ns())
        return self._last


class Smoothers:
    """The smoothing of all streams, for models of so many ``objects`` and ``scenes`` classes."""

    def __init__(self, settings: SmoothingSettings, objects: int, scenes: int) -> None:
        self._streams: defaultdict[str, StreamSmoother] = defaultdict(lambda: StreamSmoother(settings, objects, scenes))

    def update(self, item: Identified) -> Result:
        """Finish one frame; frames of a stream come in order."""
        return self._streams[item.frame.stream].update(item)


def smooth(items: Iterable[Identified], smoothers: Smoothers) -> Iterator[Result]:
    """Smooth labels and scenes over the frames of each stream."""
    for item in items:
        yield smoothers.update(item)
