"""How long a name stays when its track goes over to another person."""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engines.arrays import Rows
from pipeline.identity.stage import FaceTrack, match
from pipeline.settings.schema import IdentitySettings
from tools.recognition.crops import Crops, shuffled
from tools.recognition.methods import Enrolled
from tools.recognition.splits import deal

RATE_HZ: Final = 25
NAMED_S: Final = 3.0  # of the first person
AFTER_S: Final = 10.0  # of the other, or of the same one going on
LOOK: Final = 0.5  # all views look equally good
MIN_VIEWS: Final = IdentitySettings().min_views


class Swaps(msgspec.Struct, frozen=True, kw_only=True):
    """What became of names."""

    threshold: float
    swaps: int  # tracks that bore the right name before
    within_2_5_s: float  # share of them that no longer bore it
    within_5_s: float
    within_10_s: float
    median_s: float
    kept: int  # the same tracks, going on with the same video
    kept_lost: float  # share of them that lost the name within 10 s
    views_a_second: float  # embedded, of faces with a name that they keep


class Follower:
    """One face track at a steady rate, looked at when the pipeline would look.

    Attributes:
        views: embedded so far.
    """

    def __init__(self, crops: Crops, enrolled: Enrolled, threshold: float) -> None:
        self.views = 0
        self._crops = crops
        self._index = enrolled.index
        self._threshold = threshold
        self._track = FaceTrack()
        self._frame = 0

    def show(self, rows: Iterator[int], seconds: float, name: str) -> float | None:
        """Show frames; say after how many seconds it first did not bear ``name``, None if it always did."""
        lost = None
        for frame in range(round(seconds * RATE_HZ)):
            self._see(rows)
            if lost is None and (self._track.identity is None or self._track.identity.name != name):
                lost = frame / RATE_HZ
        return lost

    def bears(self, name: str) -> bool:
        """Whether it bears the name now."""
        return self._track.identity is not None and self._track.identity.name == name

    def _see(self, rows: Iterator[int]) -> None:
        time_s, self._frame = self._frame / RATE_HZ, self._frame + 1
        if self._track.wants(LOOK, time_s, MIN_VIEWS):
            row = next(rows)
            self.views += 1
            self._track.looked_s, self._track.best_look = time_s, LOOK
            self._track.evidence.add(
                self._crops.embeddings[row], float(self._crops.qualities[row]), float(self._crops.frontal[row])
            )
            match([self._track], self._index)
        self._track.identity = self._track.candidate(self._index, self._threshold, MIN_VIEWS)


def measure_swaps(crops: Crops, threshold: float, seeds: int) -> Swaps:
    """Follow tracks of enrolled people that go over to somebody else, and the same ones going on."""
    gone: list[float | None] = []
    lost: list[float | None] = []
    views = 0
    for seed in range(seeds):
        dealt, generator = deal(crops, "any frames", 3, seed), np.random.default_rng(seed)
        enrolled = Enrolled(crops, dealt.known)
        everybody = [*dealt.known, *dealt.strangers]
        for person in dealt.known:
            others = [each for each in everybody if each is not person]
            other = others[int(generator.integers(len(others)))]
            for rows, found in ((other.tracks[0], gone), (person.tracks[0], lost)):
                track = Follower(crops, enrolled, threshold)
                own = _longest(crops, person.tracks[0])
                track.show(shuffled(own, generator), NAMED_S, person.name)
                if track.bears(person.name):
                    before = track.views
                    then = own if found is lost else _longest(crops, rows)
                    found.append(track.show(shuffled(then, generator), AFTER_S, person.name))
                    views += track.views - before if found is lost else 0
    delays = np.array([AFTER_S if each is None else each for each in gone])
    return Swaps(
        threshold=threshold,
        swaps=len(gone),
        within_2_5_s=_share(delays <= 2.5),
        within_5_s=_share(delays <= 5.0),
        within_10_s=_share(delays < AFTER_S),
        median_s=round(float(np.median(delays)), 2),
        kept=len(lost),
        kept_lost=_share(np.array([each is not None for each in lost])),
        views_a_second=round(views / (AFTER_S * len(lost)), 3),
    )


def _longest(crops: Crops, rows: Rows) -> Rows:
    """The frames of the video that most of these are of."""
    videos, counts = np.unique(crops.videos[rows], return_counts=True)
    return np.asarray(rows[crops.videos[rows] == videos[counts.argmax()]])


def _share(flags: npt.NDArray[np.bool_]) -> float:
    return round(float(flags.mean()), 4)
