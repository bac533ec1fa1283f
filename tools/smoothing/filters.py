"""What is compared: no smoothing, the plain ways, and the pipeline's own.

All take the frames of N things in turn: what a frame says of them (N, C), the scores by label, and the time since the
last frame. All tell which label they show of each thing, (N,).
"""

from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

import numpy as np

from engines.arrays import Double, Rows
from pipeline.settings.schema import SmoothingSettings
from pipeline.smoothing.stage import LabelSmoother, SceneSmoother

Kind = Literal["labels", "scenes"]

OURS: Final = "Trunkline"
NO_SMOOTHING: Final = "none"
# A window that averages noise as much as the decaying mean does, so that both remember equally much.
WINDOW_S: Final = 2 * SmoothingSettings().half_life_s / np.log(2)


class Filter(Protocol):
    """What turns frames into what is shown."""

    def update(self, step_s: float, scores: Double) -> Rows:
        """Take the scores (N, C) of a frame ``step_s`` after the last one; shown labels (N,)."""
        ...


class Unsmoothed:
    """Each frame's own label."""

    def update(self, step_s: float, scores: Double) -> Rows:
        return np.asarray(scores.argmax(axis=-1))


class WindowMean:
    """The label with the highest mean score over ``window_s``: the plain average."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._seen: deque[tuple[float, Double]] = deque()
        self._now_s = 0.0

    def update(self, step_s: float, scores: Double) -> Rows:
        self._now_s += step_s
        self._seen.append((self._now_s, scores))
        while self._seen[0][0] <= self._now_s - self._window_s:
            self._seen.popleft()
        return np.asarray(np.sum([each for _, each in self._seen], axis=0).argmax(axis=-1))


class MajorityVote(WindowMean):
    """The label of most frames within ``window_s``; of equal ones the lowest."""

    def update(self, step_s: float, scores: Double) -> Rows:
        return super().update(step_s, np.eye(scores.shape[-1])[scores.argmax(axis=-1)])


PLAIN: Final[Mapping[str, Callable[[], Filter]]] = {
    NO_SMOOTHING: Unsmoothed,
    "majority vote": lambda: MajorityVote(WINDOW_S),
    "plain average": lambda: WindowMean(WINDOW_S),
}


def shown(filtering: Filter, times_s: Double, scores: Double) -> Rows:
    """What a filter shows, (F, N), frame by frame; times (F,) and scores (F, N, C)."""
    steps = np.diff(times_s, prepend=times_s[0]).tolist()
    return np.stack([filtering.update(step_s, frame) for step_s, frame in zip(steps, scores, strict=True)])


def shown_by_all(kind: Kind, times_s: Double, scores: Double) -> dict[str, Rows]:
    """What the pipeline shows with its defaults, and every plain way, (F, N) each; -1 where a scene is not named."""
    ours = _labels if kind == "labels" else _scenes
    return {OURS: ours(times_s, scores), **{name: shown(make(), times_s, scores) for name, make in PLAIN.items()}}


def _labels(times_s: Double, scores: Double) -> Rows:
    smoother, ids = LabelSmoother(SmoothingSettings(), scores.shape[2]), np.arange(scores.shape[1])
    frames = zip(times_s.tolist(), scores.argmax(-1).astype(np.int32), scores.max(-1), strict=True)
    return np.array([smoother.update(time_s, ids, *frame)[0] for time_s, *frame in frames], np.int64)


def _scenes(times_s: Double, scores: Double) -> Rows:
    streams = [SceneSmoother(SmoothingSettings(), scores.shape[2]) for _ in range(scores.shape[1])]
    frames = zip(times_s.tolist(), scores, strict=True)
    return np.array(
        [[it.update(time_s, row)[1] for it, row in zip(streams, frame, strict=True)] for time_s, frame in frames],
        np.int64,
    )
