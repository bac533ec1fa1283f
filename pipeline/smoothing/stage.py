"""Labels over time: single frames flicker, tracks and scenes do not. Why these filters: docs/smoothing.md."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np

from engines.arrays import Double, Float, Labels, Rows
from engines.tasks import task
from pipeline.frames.light import Light
from pipeline.frames.types import FaceLabel, FaceLooks, Frame, Identified, Result, Tracks
from pipeline.settings.schema import SmoothingSettings
from pipeline.smoothing.light import LightSmoother, mean_luma

NO_TRACK: Final = np.iinfo(np.int64).max  # beyond every id: whatever is looked up finds a row
MAX_SHARE: Final = 0.45  # share of all weight that one frame may have, after a gap: one frame alone decides nothing
TINY: Final = 1e-300  # in place of no weight at all
SCENE_LASTS_S: Final = 20.0  # before the next one comes, in the mean
ALIKE_S: Final = 0.2  # frames closer than this err together
SCENE_GAIN: Final = 4.0  # power of a frame's probabilities, of frames that do not
MIN_LIKELIHOOD: Final = 0.02  # of a frame, whatever it says: the surest networks are wrong at times
SCENE_NAMED: Final = 0.5  # a scene is named from this smoothed probability on ...
SCENE_KEPT: Final = 0.3  # ... and no longer once the likeliest one has been below this ...
DOUBT_S: Final = 1.0  # ... for so long: a change from one scene to another passes through doubt


class LabelSmoother:
    """The label of each track by a linear opinion pool over its detections; pure state, times are stream time.

    The confidence of a label is the mean over time of its scores, 0 where the detection bore another label, weighed by
    the scores: of a detector trained with the quality focal loss (Li et al., "Generalized Focal Loss", 2020) they say
    how sure it is and how well the box fits. What a detection says holds since the detection before, so that frame
    rates do not matter, and counts half as much after ``half_life_s``. A label is replaced when another one has led by
    ``margin``, as a share of the evidence for both, for ``hold_s``. Stone, "The Opinion Pool", Annals of Mathematical
    Statistics 32(4), 1961.
    """

    def __init__(self, settings: SmoothingSettings, classes: int) -> None:
        self._settings = settings
        self._ids: Rows = np.array([NO_TRACK])  # ascending, and a last row for none; row by row with all below
        self._evidence = np.zeros((1, classes))  # decaying means of the squared scores, by label
        self._weight = np.zeros(1)  # decaying mean of the scores
        self._time_s = np.zeros(1)
        self._label: Labels = np.zeros(1, np.int32)
        self._rival: Labels = np.zeros(1, np.int32)  # who leads enough, or the label itself ...
        self._since_s = np.zeros(1)  # ... since when

    def update(self, time_s: float, ids: Rows, labels: Labels, scores: Float) -> tuple[Labels, Float]:
        """Take one detection of each of the tracks ``ids`` (T,), each id once.

        Args:
            time_s: stream time; a step back counts as no time at all.
            ids: (T,) track ids.
            labels: (T,) raw label of each detection.
            scores: (T,) its score in [0, 1].

        Returns:
            Smoothed labels (T,) and their confidence (T,) in [0, 1].
        """
        rows = self._rows(ids, labels)
        before_s = self._time_s.take(rows)
        step = np.maximum(time_s - before_s, 0.0)
        share = np.minimum(1.0 - np.exp2(step * (-1.0 / self._settings.half_life_s)), MAX_SHARE)
        kept, said = 1.0 - share, share * scores
        evidence = self._evidence.take(rows, axis=0) * kept[:, None]
        starts = np.arange(0, evidence.size, evidence.shape[1])  # flat indices are several times faster than pairs
        evidence.reshape(-1)[starts + labels] += said * scores
        weight = self._weight.take(rows) * kept + said
        self._evidence[rows], self._weight[rows], self._time_s[rows] = evidence, weight, time_s
        smoothed = self._elect(time_s, before_s, rows, evidence)
        confidence = evidence.take(starts + smoothed) / np.maximum(weight, TINY)
        return smoothed, confidence.astype(np.float32)

    def forget(self, ids: Rows) -> None:
        """Drop tracks that ended."""
        if len(ids):
            self._arrange(np.flatnonzero(~np.isin(self._ids, ids)))

    def _elect(self, time_s: float, before_s: Double, rows: Rows, evidence: Double) -> Labels:
        """The label of each row, with this detection."""
        starts, current = np.arange(0, evidence.size, evidence.shape[1]), self._label.take(rows)
        best = evidence.argmax(axis=1).astype(np.int32)
        if not np.count_nonzero(best != current) and not np.count_nonzero(current != self._rival.take(rows)):
            return current  # the common case: each label leads, as it did before
        # Relative, since a cautious network's labels must be able to change, too.
        ahead, behind = 1.0 - self._settings.margin, 1.0 + self._settings.margin
        leads = ahead * evidence.take(starts + best) > behind * evidence.take(starts + current)
        rival = np.where(leads, best, current)
        since_s = np.where(rival == self._rival.take(rows), self._since_s.take(rows), before_s)
        elected = np.where(time_s - since_s >= self._settings.hold_s, rival, current)
        self._rival[rows], self._since_s[rows], self._label[rows] = rival, since_s, elected
        return elected

    def _rows(self, ids: Rows, labels: Labels) -> Rows:
        """The row of each track; new ones get one."""
        rows = self._ids.searchsorted(ids)
        fresh = np.flatnonzero(self._ids[rows] != ids)
        if not len(fresh):
            return rows
        at, born = len(self._ids), ids[fresh]
        self._arrange(np.concatenate([np.arange(at), np.full(len(fresh), at - 1)]))
        self._ids[at:], self._time_s[at:] = born, -np.inf  # whatever is said first has the most weight
        self._label[at:] = self._rival[at:] = labels[fresh]
        self._arrange(np.argsort(self._ids))
        return self._ids.searchsorted(ids)

    def _arrange(self, rows: Rows) -> None:
        """Take these rows of everything, in this order."""
        self._ids, self._evidence, self._weight = self._ids[rows], self._evidence[rows], self._weight[rows]
        self._time_s, self._label = self._time_s[rows], self._label[rows]
        self._rival, self._since_s = self._rival[rows], self._since_s[rows]


class SceneSmoother:
    """The scene of a stream; pure state, times are stream time.

    Which scene it is, is told by the forward pass of a hidden Markov model (Rabiner, "A Tutorial on Hidden Markov
    Models", Proceedings of the IEEE 77(2), 1989): a scene lasts ``SCENE_LASTS_S`` in the mean, and frames closer than
    ``ALIKE_S`` tell less each, since they err together. How probable it is, is told by a linear opinion pool, as of
    labels: frames that tell the same thing do not add up to false certainty. A scene is named when it is probable
    enough, replaced when the belief in another one has led by ``margin`` for ``hold_s``, as with labels, and no longer
    named after ``DOUBT_S`` in which the one most believed in was not probable.
    """

    def __init__(self, settings: SmoothingSettings, classes: int) -> None:
        self._settings = settings
        self._belief = np.full(classes, 1.0 / max(classes, 1))
        self._pooled = np.zeros(classes)  # decaying mean of the probabilities
        self._time_s: float | None = None
        self._label = -1
        self._rival = -1
        self._led_s = 0.0
        self._doubted_s = 0.0

    def update(self, time_s: float, probabilities: Float) -> tuple[Float, int]:
        """Take one frame's ``probabilities`` (C,); smoothed ones (C,) and the label, -1 for none."""
        if not len(probabilities):
            return probabilities, -1
        step = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        share = min(1.0 - 0.5 ** (step / self._settings.half_life_s), MAX_SHARE)
        alone = 1.0 - math.exp(-step / ALIKE_S)
        if self._time_s is None:
            share = alone = 1.0
        self._time_s = time_s
        self._pooled += share * (probabilities - self._pooled)
        stays = math.exp(-step / SCENE_LASTS_S)
        likelihood = np.maximum(probabilities, MIN_LIKELIHOOD, dtype=np.float64) ** (alone * SCENE_GAIN)
        belief = (stays * self._belief + (1.0 - stays) / len(likelihood)) * likelihood
        self._belief = belief / np.add.reduce(belief)
        self._elect(step)
        return self._pooled.astype(np.float32), self._label

    def _elect(self, step: float) -> None:
        """Name the scene, rename it or take its name away, with this frame."""
        best, label = int(self._belief.argmax()), self._label
        probability = self._pooled[best]
        if label < 0:
            leads = probability >= SCENE_NAMED
        else:
            margin = self._settings.margin
            leads = (1.0 - margin) * self._belief[best] > (1.0 + margin) * self._belief[label]
        rival = best if leads else label
        self._led_s = (self._led_s if rival == self._rival else 0.0) + step
        self._rival = rival
        if self._led_s >= self._settings.hold_s:
            self._label = rival
        self._doubted_s = self._doubted_s + step if probability < SCENE_KEPT else 0.0
        if self._doubted_s >= DOUBT_S:
            self._label = -1


class FaceLabelSmoother:
    """What each face of a stream is by one task: as objects' labels, over the frames that the face entry was shown."""

    def __init__(self, settings: SmoothingSettings, labels: tuple[str, ...]) -> None:
        self._names = labels
        self._labels = LabelSmoother(settings, len(labels))
        self._known: dict[int, FaceLabel] = {}

    def update(self, time_s: float, faces: Tracks, looks: FaceLooks | None) -> tuple[FaceLabel | None, ...]:
        """Take what was said in one frame; the label of each of its faces, None of those that were not shown yet."""
        self._labels.forget(faces.ended)
        for track in faces.ended.tolist():
            self._known.pop(track, None)
        if looks is not None:
            ids, best = faces.ids[looks.rows], looks.probabilities.argmax(axis=1).astype(np.int32)
            labels, scores = self._labels.update(time_s, ids, best, looks.probabilities.max(axis=1))
            for track, label, score in zip(ids.tolist(), labels.tolist(), scores.tolist(), strict=True):
                self._known[track] = FaceLabel(self._names[label], score)
        return tuple(map(self._known.get, faces.ids.tolist()))


class StreamSmoother:
    """The smoothed labels and the smoothed scene of one stream."""

    def __init__(self, settings: SmoothingSettings, objects: int, scenes: int, *, light: bool = False) -> None:
        self._settings, self._scenes = settings, scenes
        self._labels = LabelSmoother(settings, objects)
        self._scene = SceneSmoother(settings, scenes)
        self._light = LightSmoother() if light else None
        self._of_faces: dict[str, FaceLabelSmoother] = {}  # by task
        self._last: Result | None = None

    def update(self, item: Identified) -> Result:
        """Finish one frame; frames of the stream come in order."""
        time_s, tracks, of_faces = item.frame.time_s, item.objects, self._face_labels(item)
        light = self._lit(item.frame)
        if item.skipped and self._last is not None and not item.cut:
            last = self._last  # the same detections once more are no further evidence
            if np.array_equal(tracks.ids, last.objects.ids):
                seen = last.labels, last.label_scores, last.scene, last.scene_label
                return Result.finished(item, *seen, time.monotonic_ns(), of_faces, light)
        self._labels.forget(tracks.ended)
        if item.cut:
            self._scene = SceneSmoother(self._settings, self._scenes)
        labels, scores = self._labels.update(time_s, tracks.ids, tracks.labels, tracks.scores)
        scene, scene_label = self._scene.update(time_s, item.detections.scene)
        self._last = Result.finished(item, labels, scores, scene, scene_label, time.monotonic_ns(), of_faces, light)
        return self._last

    def _lit(self, frame: Frame) -> Light | None:
        """Whether it is day or night, if that is asked; of a frame between those that are inferred, as before it."""
        if self._light is None or frame.between:
            return None if self._light is None else self._light.light
        return self._light.update(frame.time_s, mean_luma(frame.picture))

    def _face_labels(self, item: Identified) -> dict[str, tuple[FaceLabel | None, ...]]:
        for name in item.looks:
            if name not in self._of_faces:
                self._of_faces[name] = FaceLabelSmoother(self._settings, task(name).labels)
        return {
            name: smoother.update(item.frame.time_s, item.faces, item.looks.get(name))
            for name, smoother in self._of_faces.items()
        }


class Smoothers:
    """The smoothing of all streams, for models of so many ``objects`` and ``scenes`` classes.

    Args:
        settings: of every stream.
        objects: classes.
        scenes: classes.
        light: whether it is told if it is day or night.
    """

    def __init__(self, settings: SmoothingSettings, objects: int, scenes: int, *, light: bool = False) -> None:
        self._streams: defaultdict[str, StreamSmoother] = defaultdict(
            lambda: StreamSmoother(settings, objects, scenes, light=light)
        )

    def update(self, item: Identified) -> Result:
        """Finish one frame; frames of a stream come in order."""
        return self._streams[item.frame.stream].update(item)

    def forget(self, stream: str) -> None:
        """A stream was removed: what comes under its name is another."""
        self._streams.pop(stream, None)


def smooth(items: Iterable[Identified], smoothers: Smoothers) -> Iterator[Result]:
    """Smooth labels and scenes over the frames of each stream."""
    for item in items:
        yield smoothers.update(item)
