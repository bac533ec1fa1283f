"""Labels over time: single frames flicker, tracks and scenes do not."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from engines.boxes import Float
from pipeline.config import SmoothingSettings
from pipeline.types import Identified, Result

Labels = npt.NDArray[np.int32]
Ids = npt.NDArray[np.int64]

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
        self._ids: Ids = np.zeros(0, np.int64)  # ascending; row by row with all below
        self._evidence = np.zeros((0, classes))
        self._weight = np.zeros(0)
        self._time_s = np.zeros(0)
        self._label: Labels = np.zeros(0, np.int32)
        self._rival: Labels = np.zeros(0, np.int32)  # who leads enough, or the label itself
        self._led_s = np.zeros(0)  # for how long

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
        self._add(time_s, ids, labels)
        rows = np.searchsorted(self._ids, ids)
        step = (time_s - self._time_s[rows]).clip(min=0.0)
        self._time_s[rows] = time_s
        fading = 0.5 ** (step / self._settings.half_life_s)
        self._evidence[rows] *= fading[:, None]
        self._evidence[rows, labels] += scores
        self._weight[rows] = self._weight[rows] * fading + 1.0
        confidence = self._evidence[rows] / self._weight[rows, None]
        # Of the evidence, not of the scores: a cautious network's labels must be able to change, too.
        self._elect(rows, step, confidence / np.maximum(confidence.sum(axis=1, keepdims=True), 1e-9))
        smoothed = self._label[rows]
        return smoothed, confidence[np.arange(len(rows)), smoothed].astype(np.float32)

    def forget(self, ids: Ids) -> None:
        """Drop tracks that ended."""
        kept = ~np.isin(self._ids, ids)
        self._ids, self._evidence, self._weight = self._ids[kept], self._evidence[kept], self._weight[kept]
        self._time_s, self._label = self._time_s[kept], self._label[kept]
        self._rival, self._led_s = self._rival[kept], self._led_s[kept]

    def _elect(self, rows: Ids, step: npt.NDArray[np.float64], shares: npt.NDArray[np.float64]) -> None:
        every = np.arange(len(rows))
        current = self._label[rows]
        best = shares.argmax(axis=1).astype(np.int32)
        leads = shares[every, best] - shares[every, current] >= self._settings.margin
        rival = np.where(leads, best, current)
        stays = (rival != current) & (rival == self._rival[rows])
        led_s = np.where(stays, self._led_s[rows] + step, 0.0)
        wins = led_s >= self._settings.hold_s
        self._rival[rows], self._led_s[rows] = rival, led_s
        self._label[rows] = np.where(wins, rival, current)

    def _add(self, time_s: float, ids: Ids, labels: Labels) -> None:
        fresh = ~np.isin(ids, self._ids)
        if not fresh.any():
            return
        count = int(fresh.sum())
        all_ids = np.concatenate([self._ids, ids[fresh]])
        order = np.argsort(all_ids)
        self._ids = all_ids[order]
        self._evidence = np.concatenate([self._evidence, np.zeros((count, self._evidence.shape[1]))])[order]
        self._weight = np.concatenate([self._weight, np.zeros(count)])[order]
        self._time_s = np.concatenate([self._time_s, np.full(count, time_s)])[order]
        self._label = np.concatenate([self._label, labels[fresh]])[order]
        self._rival = np.concatenate([self._rival, labels[fresh]])[order]
        self._led_s = np.concatenate([self._led_s, np.zeros(count)])[order]


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

    def update(self, item: Identified) -> Result:
        """Finish one frame; frames of the stream come in order."""
        time_s, tracks = item.frame.time_s, item.tracked.objects
        self._labels.forget(tracks.ended)
        labels, scores = self._labels.update(time_s, tracks.ids, tracks.labels, tracks.scores)
        scene, scene_label = self._scene.update(time_s, item.tracked.observed.detections.scene)
        return Result(item, labels, scores, scene, scene_label, time.monotonic_ns())


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
