"""What is compared: no smoothing, the plain ways, the candidates over grids of settings, and the pipeline's own."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final, Literal

import numpy as np

from pipeline.config import SmoothingSettings
from pipeline.smoothing import LabelSmoother, SceneSmoother
from tools.smoothing.filters import Double, Filter, Forward, MajorityVote, Pool, Rows, Unsmoothed, WindowMean

Kind = Literal["labels", "scenes"]

OURS: Final = "Trunkline"
NO_SMOOTHING: Final = "none"
# A window that averages noise as much as the decaying mean does, so that both remember equally much.
WINDOW_S: Final = 2 * SmoothingSettings().half_life_s / np.log(2)
PLAIN: Final[Mapping[str, Callable[[], Filter]]] = {
    NO_SMOOTHING: Unsmoothed,
    "majority vote": lambda: MajorityVote(WINDOW_S),
    "plain average": lambda: WindowMean(WINDOW_S),
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A filter with the values of each of its settings that are tried, all with all."""

    make: Callable[..., Filter]
    values: Mapping[str, tuple[float, ...]]

    @property
    def grid(self) -> list[dict[str, float]]:
        return [dict(zip(self.values, each, strict=True)) for each in product(*self.values.values())]

    def with_all(self, grid: list[dict[str, float]]) -> Filter:
        """The filter over all these settings at once."""
        return self.make(**{name: np.array([[settings[name]] for settings in grid]) for name in self.values})


_ELECTION: Final = {"margin": (0.1, 0.2), "hold_s": (0.05,)}
_POOL: Final = {"half_life_s": (0.15, 0.2, 0.25), "most": (0.45,), "emphasis": (0.0, 1.0, 2.0), **_ELECTION}
CANDIDATES: Final[Mapping[str, Candidate]] = {
    "linear pool": Candidate(Pool, _POOL),
    "log pool": Candidate(Pool, {**_POOL, "sharpness": (1.0, 4.0)}),
    "forward pass": Candidate(
        Forward,
        {"lasts_s": (5.0, 20.0), "apart_s": (0.1, 0.2, 0.4), "gain": (1.0, 2.0, 3.0, 4.0), **_ELECTION},
    ),
}


def shown(filtering: Filter, times_s: Double, scores: Double) -> Iterator[Rows]:
    """What a filter shows, (P, N), frame by frame; times (F,) and scores (F, N, C)."""
    for step_s, frame in zip(np.diff(times_s, prepend=times_s[0]).tolist(), scores, strict=True):
        yield filtering.update(step_s, frame)


def shown_by_ours(kind: Kind, times_s: Double, scores: Double) -> Rows:
    """What the pipeline shows with its defaults, (F, N); -1 where a scene is not named."""
    settings, (_, things, classes) = SmoothingSettings(), scores.shape
    if kind == "labels":
        smoother, ids = LabelSmoother(settings, classes), np.arange(things)
        frames = zip(times_s.tolist(), scores.argmax(-1).astype(np.int32), scores.max(-1), strict=True)
        return np.array([smoother.update(time_s, ids, *frame)[0] for time_s, *frame in frames], np.int64)
    streams = [SceneSmoother(settings, classes) for _ in range(things)]
    return np.array(
        [
            [stream.update(time_s, row)[1] for stream, row in zip(streams, frame, strict=True)]
            for time_s, frame in zip(times_s.tolist(), scores, strict=True)
        ],
        np.int64,
    )
