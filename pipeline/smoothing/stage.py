"""Labels over time: single frames flicker, tracks and scenes do not. Why these filters: docs/smoothing.md."""

import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import count
from typing import Final

import numpy as np

from engines.arrays import Double, Float, Labels, Rows
from engines.tasks import task
from pipeline.frames.light import Light
from pipeline.frames.turns import turns
from pipeline.frames.types import FaceLabel, FaceLooks, Frame, Identified, Result, Tracks
from pipeline.settings.schema import SmoothingSettings
from pipeline.smoothing.light import LightSmoother, mean_luma

NO_TRACK: Final = np.iinfo(np.int64).max  # beyond every id: whatever is looked up finds a row
TRACKS: Final = 1 << 40  # numbers that the tracks of a stream may have
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
        self._ids: Rows = np.array([NO_TRACK])  # ascending, and a last one for none ...
        self._places: Rows = np.zeros(1, np.int64)  # ... and the row of each in all below
        self._free: list[int] = []  # rows of no track
        self._evidence = np.zeros((1, classes))  # decaying means of the squared scores, by label
        self._weight = np.zeros(1)  # decaying mean of the scores
        self._time_s = np.zeros(1)
        self._label: Labels = np.zeros(1, np.int32)
        self._rival: Labels = np.zeros(1, np.int32)  # who leads enough, or the label itself ...
        self._since_s = np.zeros(1)  # ... since when

    def update(self, time_s: float | Double, ids: Rows, labels: Labels, scores: Float) -> tuple[Labels, Float]:
        """Take one detection of each of the tracks ``ids`` (T,), each id once.

        Args:
            time_s: stream time, one for all or (T,); a step back counts as no time at all.
            ids: (T,) numbers of tracks, of streams of any number.
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
            self._drop(np.isin(self._ids[:-1], ids).nonzero()[0])

    def forget_between(self, first: int, end: int) -> None:
        """Drop all tracks with ids from ``first`` on and below ``end``."""
        self._drop(np.arange(*self._ids.searchsorted((first, end))))

    def _drop(self, at: Rows) -> None:
        self._free += self._places[at].tolist()
        self._ids, self._places = np.delete(self._ids, at), np.delete(self._places, at)

    def _elect(self, time_s: float | Double, before_s: Double, rows: Rows, evidence: Double) -> Labels:
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
        at = self._ids.searchsorted(ids)
        (fresh,) = (self._ids.take(at) != ids).nonzero()
        if len(fresh):
            rows = self._claimed(len(fresh))
            self._evidence[rows] = self._weight[rows] = self._since_s[rows] = 0.0
            self._time_s[rows] = -np.inf  # whatever is said first has the most weight
            self._label[rows] = self._rival[rows] = labels[fresh]
            known = np.concatenate([self._ids, ids[fresh]])
            order = known.argsort()
            self._ids, self._places = known[order], np.concatenate([self._places, rows])[order]
            at = self._ids.searchsorted(ids)
        return self._places.take(at)

    def _claimed(self, count: int) -> Rows:
        """So many rows that were free; there are twice as many, where there were not enough."""
        if len(self._free) < count:
            before = len(self._weight)
            more = before + count
            self._free += range(before, before + more)
            self._evidence = np.concatenate([self._evidence, np.zeros((more, self._evidence.shape[1]))])
            self._weight, self._time_s, self._label, self._rival, self._since_s = (
                np.concatenate([each, np.zeros(more, each.dtype)])
                for each in (self._weight, self._time_s, self._label, self._rival, self._since_s)
            )
        rows = np.array(self._free[-count:])
        del self._free[-count:]
        return rows


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
        self.belief = np.full(classes, 1.0 / max(classes, 1))
        self.pooled = np.zeros(classes)  # decaying mean of the probabilities
        self._time_s: float | None = None
        self._step = 0.0  # seconds before
        self._label = -1
        self._rival = -1
        self._led_s = 0.0
        self._doubted_s = 0.0

    def update(self, time_s: float, probabilities: Float) -> tuple[Float, int]:
        """Take one frame's ``probabilities`` (C,); smoothed ones (C,) and the label, -1 for none."""
        ((smoothed, label),) = smooth_scenes([self], [time_s], [probabilities])
        return smoothed, label

    def begin(self, time_s: float) -> tuple[float, float, float]:
        """Move on to a frame: its share in the pool, how much it says for itself, how likely the scene has lasted."""
        first = self._time_s is None
        self._step = 0.0 if self._time_s is None else max(0.0, time_s - self._time_s)
        self._time_s = time_s
        share = min(1.0 - 0.5 ** (self._step / self._settings.half_life_s), MAX_SHARE)
        alone, stays = 1.0 - math.exp(-self._step / ALIKE_S), math.exp(-self._step / SCENE_LASTS_S)
        return (1.0, 1.0, stays) if first else (share, alone, stays)

    def end(self, belief: Double, pooled: Double, best: int) -> int:
        """Take what follows from that frame, the likeliest scene of which is ``best``; the label."""
        self.belief, self.pooled = belief, pooled
        self._elect(best)
        return self._label

    def _elect(self, best: int) -> None:
        """Name the scene, rename it or take its name away, with this frame."""
        label, probability = self._label, float(self.pooled[best])
        if label < 0:
            leads = probability >= SCENE_NAMED
        else:
            margin = self._settings.margin
            leads = (1.0 - margin) * self.belief[best] > (1.0 + margin) * self.belief[label]
        rival = best if leads else label
        self._led_s = (self._led_s if rival == self._rival else 0.0) + self._step
        self._rival = rival
        if self._led_s >= self._settings.hold_s:
            self._label = rival
        self._doubted_s = self._doubted_s + self._step if probability < SCENE_KEPT else 0.0
        if self._doubted_s >= DOUBT_S:
            self._label = -1


def smooth_scenes(
    smoothers: Sequence[SceneSmoother], times_s: Sequence[float], probabilities: Sequence[Float]
) -> list[tuple[Float, int]]:
    """Take one frame's ``probabilities`` (C,) of each stream; smoothed ones (C,) and the label, -1 for none.

    Where C is 0, the network did not look.
    """
    smoothed = [(each, -1) for each in probabilities]
    rows = [row for row, each in enumerate(probabilities) if len(each)]
    if rows:
        begun = [smoothers[row].begin(times_s[row]) for row in rows]
        share, alone, stays = np.array(begun).T[:, :, None]
        seen = np.array([probabilities[row] for row in rows])
        pooled = np.array([smoothers[row].pooled for row in rows])
        pooled += share * (seen - pooled)
        likelihood = np.maximum(seen, MIN_LIKELIHOOD, dtype=np.float64) ** (alone * SCENE_GAIN)
        belief = stays * np.array([smoothers[row].belief for row in rows])
        belief = (belief + (1.0 - stays) / seen.shape[1]) * likelihood
        belief /= np.add.reduce(belief, axis=1, keepdims=True)
        told = zip(rows, belief, pooled, pooled.astype(np.float32), belief.argmax(axis=1).tolist(), strict=True)
        for row, of, kept, shown, best in told:
            smoothed[row] = shown, smoothers[row].end(of, kept, best)
    return smoothed


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


class _StreamSmoother:
    """The smoothed labels and the smoothed scene of one stream.

    Attributes:
        first_id: of the numbers that its tracks have in the smoother of all labels.
        scene: the smoother of its scenes.
        last: the last frame that was no repetition of the one before.
    """

    def __init__(self, settings: SmoothingSettings, scene: SceneSmoother, first_id: int, *, light: bool) -> None:
        self.scene, self.first_id = scene, first_id
        self.last: Result | None = None
        self._settings = settings
        self._light = LightSmoother() if light else None
        self._of_faces: dict[str, FaceLabelSmoother] = {}  # by task

    def lit(self, frame: Frame) -> Light | None:
        """Whether it is day or night, if that is asked; of a frame between those that are inferred, as before it."""
        if self._light is None or frame.between:
            return None if self._light is None else self._light.light
        return self._light.update(frame.time_s, mean_luma(frame.picture))

    def face_labels(self, item: Identified) -> dict[str, tuple[FaceLabel | None, ...]]:
        """What tasks of faces say of each face."""
        for name in item.looks:
            if name not in self._of_faces:
                self._of_faces[name] = FaceLabelSmoother(self._settings, task(name).labels)
        return {
            name: smoother.update(item.frame.time_s, item.faces, item.looks.get(name))
            for name, smoother in self._of_faces.items()
        }

    def repeated(self, item: Identified) -> Result | None:
        """The last frame, if this one shows it again: the same detections once more are no further evidence."""
        last = self.last if item.skipped and not item.cut else None
        return last if last is not None and np.array_equal(item.objects.ids, last.objects.ids) else None


class Smoothers:
    """The smoothing of all streams, for models of so many ``objects`` and ``scenes`` classes.

    Args:
        settings: of every stream.
        objects: classes.
        scenes: classes.
        light: whether it is told if it is day or night.
    """

    def __init__(self, settings: SmoothingSettings, objects: int, scenes: int, *, light: bool = False) -> None:
        self._new_scene = partial(SceneSmoother, settings, scenes)
        self._labels, numbers = LabelSmoother(settings, objects), count(0, TRACKS)
        self._streams: defaultdict[str, _StreamSmoother] = defaultdict(
            lambda: _StreamSmoother(settings, self._new_scene(), next(numbers), light=light)
        )

    def update(self, items: Sequence[Identified]) -> list[Result]:
        """Finish the frames of a batch, those of a stream in order; in the same order."""
        done = dict[int, Result]()
        for places in turns(items):
            done.update(zip(places, self._update_each([items[place] for place in places]), strict=True))
        return [done[place] for place in range(len(items))]

    def _update_each(self, items: Sequence[Identified]) -> list[Result]:
        """Finish one frame of each of some streams."""
        streams = [self._streams[item.frame.stream] for item in items]
        repeated = [stream.repeated(item) for stream, item in zip(streams, items, strict=True)]
        fresh = [row for row, last in enumerate(repeated) if last is None]
        told = self._fresh([items[row] for row in fresh], [streams[row] for row in fresh])
        results = []
        for item, stream, last in zip(items, streams, repeated, strict=True):
            seen = next(told) if last is None else (last.labels, last.label_scores, last.scene, last.scene_label)
            of_faces, light = stream.face_labels(item), stream.lit(item.frame)
            results.append(Result.finished(item, *seen, time.monotonic_ns(), of_faces, light))
            if last is None:
                stream.last = results[-1]
        return results

    def _fresh(
        self, items: Sequence[Identified], streams: Sequence[_StreamSmoother]
    ) -> Iterator[tuple[Labels, Float, Float, int]]:
        """What frames say that repeat no other, if any: labels and their scores, scenes and their label."""
        if not items:
            return
        for item, stream in zip(items, streams, strict=True):
            self._labels.forget(stream.first_id + item.objects.ended)
            if item.cut:
                stream.scene = self._new_scene()
        times_s, tracks = [item.frame.time_s for item in items], [item.objects for item in items]
        counts = [len(each.ids) for each in tracks]
        ids = np.concatenate([each.ids for each in tracks])
        ids += np.array([stream.first_id for stream in streams]).repeat(counts)
        labels, scores = self._labels.update(
            np.array(times_s).repeat(counts),
            ids,
            np.concatenate([each.labels for each in tracks]),
            np.concatenate([each.scores for each in tracks]),
        )
        scenes = smooth_scenes([each.scene for each in streams], times_s, [item.detections.scene for item in items])
        end = 0
        for many, scene in zip(counts, scenes, strict=True):
            part, end = slice(end, end + many), end + many
            yield labels[part], scores[part], *scene

    def forget(self, stream: str) -> None:
        """A stream was removed: what comes under its name is another."""
        if (known := self._streams.pop(stream, None)) is not None:
            self._labels.forget_between(known.first_id, known.first_id + TRACKS)


def smooth(batches: Iterable[Sequence[Identified]], smoothers: Smoothers) -> Iterator[list[Result]]:
    """Smooth labels and scenes over the frames of each stream, batch by batch."""
    for batch in batches:
        yield smoothers.update(batch)
