"""How long a name stays when its track goes over to another person."""

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from engines.arrays import Rows
from pipeline.identity.stage import FaceTrack, match
from pipeline.settings.schema import IdentitySettings
from tools.recognition.crops import Crops
from tools.recognition.deals import Enrolled, deal

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


def followed(
    crops: Crops, enrolled: Enrolled, threshold: float, name: str, first: Iterator[int], then: Iterator[int]
) -> tuple[float, int] | None:
    """Follow a face track at a steady rate that shows some rows for NAMED_S, then others for AFTER_S.

    Returns:
        After how many seconds of the others it first did not bear ``name`` (AFTER_S: it always did), and how many of
        their views were embedded; None where it did not bear the name before.
    """
    track, views, lost_s = FaceTrack(), 0, AFTER_S
    change, end = round(NAMED_S * RATE_HZ), round((NAMED_S + AFTER_S) * RATE_HZ)
    for frame in range(end):
        time_s = frame / RATE_HZ
        if track.wants(LOOK, time_s, MIN_VIEWS):
            row = next(first if frame < change else then)
            views += frame >= change
            track.looked_s, track.best_look = time_s, LOOK
            track.evidence.add(crops.embeddings[row], float(crops.qualities[row]), float(crops.frontal[row]))
            match([track], enrolled.index)
        track.identity = track.candidate(enrolled.index, threshold, MIN_VIEWS)
        borne = track.identity is not None and track.identity.name == name
        if frame == change - 1 and not borne:
            return None
        if frame >= change and not borne:
            lost_s = min(lost_s, (frame - change) / RATE_HZ)
    return lost_s, views


def measure_swaps(crops: Crops, threshold: float, seeds: int) -> Swaps:
    """Follow tracks of enrolled people that go over to somebody else, and the same ones going on."""
    gone: list[tuple[float, int]] = []
    kept: list[tuple[float, int]] = []
    for seed in range(seeds):
        dealt, generator = deal(crops, "any frames", 3, seed), np.random.default_rng(seed)
        enrolled = Enrolled(crops, dealt.known)
        for person in dealt.known:
            others = [each for each in (*dealt.known, *dealt.strangers) if each is not person]
            other = others[int(generator.integers(len(others)))]
            own = _longest(crops, person.tracks[0])
            for then, found in ((_longest(crops, other.tracks[0]), gone), (own, kept)):
                rows = (_shuffled(own, generator), _shuffled(then, generator))
                if (outcome := followed(crops, enrolled, threshold, person.name, *rows)) is not None:
                    found.append(outcome)
    delays, stayed = np.array(gone), np.array(kept)
    within = {f"within_{name}_s": _share(delays[:, 0] <= end) for name, end in (("2_5", 2.5), ("5", 5.0))}
    return Swaps(
        threshold=threshold,
        swaps=len(gone),
        within_10_s=_share(delays[:, 0] < AFTER_S),
        median_s=round(float(np.median(delays[:, 0])), 2),
        kept=len(kept),
        kept_lost=_share(stayed[:, 0] < AFTER_S),
        views_a_second=round(float(stayed[:, 1].mean()) / AFTER_S, 3),
        **within,
    )


def _longest(crops: Crops, rows: Rows) -> Rows:
    """The frames of the video that most of these are of."""
    videos, counts = np.unique(crops.videos[rows], return_counts=True)
    return np.asarray(rows[crops.videos[rows] == videos[counts.argmax()]])


def _shuffled(rows: Rows, generator: np.random.Generator) -> Iterator[int]:
    """The rows again and again, each time in another order."""
    while True:
        yield from generator.permutation(rows).tolist()


def _share(flags: npt.NDArray[np.bool_]) -> float:
    return round(float(np.mean(flags)), 4)
