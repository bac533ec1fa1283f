"""Open-set identification: who somebody is, if anybody that is enrolled.

Every probe is searched in a gallery. Mated probes show an enrolled person, the others (strangers) show nobody that is
enrolled. The detection-and-identification rate (DIR, rank 1) at a false-alarm rate is the share of mated searches whose
most similar enrolled person is the right one, at or above the threshold at which at most that share of the strangers'
searches names anybody. It is one minus the false-negative identification rate of NIST's one-to-many tests: Grother and
Ngan, "Face Recognition Vendor Test: Performance of Face Identification Algorithms", NIST IR 8009, 2014.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from engines.arrays import Double, Flags, Float
from engines.data.pairs import identity_of
from engines.evaluation.bootstrap import Interval, percentile_interval, resample, weighted_mean
from engines.tasks.identity.verification import accept_threshold, accept_thresholds

GALLERIES = 10  # dealt with the seeds 0, 1, ...
ENROLLED_SHARE = 0.5  # of the people who have two pictures
TENTH, HUNDREDTH = 1e-1, 1e-2  # false-alarm rates


class IdentificationScores(msgspec.Struct, frozen=True, kw_only=True):
    """Means over several galleries, and how far they differ; None where a rate allows no stranger."""

    dir_at_far_1: float | None = msgspec.field(name="dir_at_far_1e-1")
    dir_at_far_1_std: float | None = msgspec.field(name="dir_at_far_1e-1_std")  # over the galleries
    dir_at_far_2: float | None = msgspec.field(name="dir_at_far_1e-2")
    dir_at_far_2_std: float | None = msgspec.field(name="dir_at_far_1e-2_std")
    rank1: float  # share of mated probes whose most similar person is the right one, at any similarity
    rank1_std: float
    intervals: dict[str, Interval | None]  # by figure; people are drawn, the galleries stay
    pictures_each: int  # that are enrolled, or fewer where a person would have none left to search for
    enrolled: int  # people in a gallery
    mated: float  # searches for them, mean over the galleries
    strangers: float  # searches for others
    galleries: int


@dataclass(frozen=True, slots=True)
class GallerySplit:
    """Pictures that are enrolled, and pictures that are searched for."""

    enrolled: list[Path]  # those of a person stand together
    mated: list[Path]  # of enrolled people
    strangers: list[Path]  # of everybody else


def deal_gallery(
    pictures: Sequence[Path], pictures_each: int, seed: int, who: Callable[[Path], str] = identity_of
) -> GallerySplit | None:
    """Enrol a random half of the people with two pictures or more; the same seed always enrols the same ones.

    ``pictures_each`` pictures of a person are enrolled, or fewer, so that one is left to search for.

    Returns:
        None where nobody can be enrolled, or nobody would be a stranger.
    """
    people: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(pictures):
        people[who(path)].append(path)
    able = [name for name, paths in people.items() if len(paths) > 1]
    generator = np.random.default_rng(seed)
    chosen = [able[row] for row in generator.permutation(len(able))[: round(len(able) * ENROLLED_SHARE)]]
    gallery = GallerySplit([], [], [path for name in people if name not in chosen for path in people[name]])
    for name in chosen:
        shuffled = [people[name][row] for row in generator.permutation(len(people[name]))]
        count = min(pictures_each, len(shuffled) - 1)
        gallery.enrolled.extend(shuffled[:count])
        gallery.mated.extend(shuffled[count:])
    return gallery if gallery.enrolled and gallery.strangers else None


@dataclass(frozen=True, slots=True)
class Searches:
    """What came of searching every probe of one gallery."""

    mated: Double  # (M,) similarity of the most similar person
    right: Flags  # (M,) whether that is the right one
    strangers: Double  # (S,)
    mated_names: npt.NDArray[np.str_]  # (M,) who each probe shows
    stranger_names: npt.NDArray[np.str_]  # (S,)


def search(
    gallery: GallerySplit, embeddings: Mapping[Path, Float], who: Callable[[Path], str] = identity_of
) -> Searches:
    """Search every probe; a person is as similar as the most similar of the enrolled pictures, as in the pipeline."""
    enrolled = _names(gallery.enrolled, who)
    starts = np.flatnonzero(np.concatenate([[True], enrolled[1:] != enrolled[:-1]]))
    vectors = _stacked(gallery.enrolled, embeddings)
    mated, strangers = (
        np.maximum.reduceat(_stacked(probes, embeddings) @ vectors.T, starts, axis=1)
        for probes in (gallery.mated, gallery.strangers)
    )
    names = _names(gallery.mated, who)
    return Searches(
        mated=mated.max(axis=1),
        right=np.asarray(enrolled[starts][mated.argmax(axis=1)] == names, np.bool_),
        strangers=strangers.max(axis=1),
        mated_names=names,
        stranger_names=_names(gallery.strangers, who),
    )


def _names(pictures: Sequence[Path], who: Callable[[Path], str]) -> npt.NDArray[np.str_]:
    return np.array([who(path) for path in pictures])


def _stacked(pictures: Sequence[Path], embeddings: Mapping[Path, Float]) -> Double:
    return np.stack([embeddings[path] for path in pictures]).astype(np.float64)


def identification_rate(searches: Searches, far: float) -> float | None:
    """DIR, rank 1, at the false-alarm rate ``far``; None where the strangers are so few that it allows none of them."""
    if far * len(searches.strangers) < 1:
        return None
    return float((searches.right & (searches.mated >= accept_threshold(searches.strangers, far))).mean())


def score_identification(
    embeddings: Mapping[Path, Float], pictures_each: int, who: Callable[[Path], str] = identity_of
) -> IdentificationScores | None:
    """Identify the crops that have an embedding (D,) of unit length, in several galleries.

    ``who`` says whom a picture shows.

    Returns:
        None where the people are too few.
    """
    dealt = [deal_gallery(list(embeddings), pictures_each, seed, who) for seed in range(GALLERIES)]
    galleries = [gallery for gallery in dealt if gallery is not None]
    if not galleries:
        return None
    all_searches = [search(gallery, embeddings, who) for gallery in galleries]
    tenth, hundredth = (_over_galleries(all_searches, far) for far in (TENTH, HUNDREDTH))
    rank1 = [float(searches.right.mean()) for searches in all_searches]
    return IdentificationScores(
        dir_at_far_1=tenth[0],
        dir_at_far_1_std=tenth[1],
        dir_at_far_2=hundredth[0],
        dir_at_far_2_std=hundredth[1],
        rank1=float(np.mean(rank1)),
        rank1_std=float(np.std(rank1)),
        intervals=_intervals(all_searches),
        pictures_each=pictures_each,
        enrolled=len(set(_names(galleries[0].enrolled, who))),
        mated=float(np.mean([len(gallery.mated) for gallery in galleries])),
        strangers=float(np.mean([len(gallery.strangers) for gallery in galleries])),
        galleries=len(galleries),
    )


def _over_galleries(all_searches: Sequence[Searches], far: float) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the identification rate."""
    rates = [identification_rate(searches, far) for searches in all_searches]
    known = [rate for rate in rates if rate is not None]
    return (float(np.mean(known)), float(np.std(known))) if known else (None, None)


def _intervals(all_searches: Sequence[Searches]) -> dict[str, Interval | None]:
    people = np.unique(np.concatenate([[*each.mated_names, *each.stranger_names] for each in all_searches]))
    drawn = resample(len(people))
    rates: dict[str, Sequence[Double | None]] = {
        "dir_at_far_1e-1": [_resampled_rate(each, TENTH, people, drawn) for each in all_searches],
        "dir_at_far_1e-2": [_resampled_rate(each, HUNDREDTH, people, drawn) for each in all_searches],
        "rank1": [
            weighted_mean(each.right, drawn[:, np.searchsorted(people, each.mated_names)]) for each in all_searches
        ],
    }
    return {name: _interval_over_galleries(values) for name, values in rates.items()}


def _resampled_rate(searches: Searches, far: float, people: npt.NDArray[np.str_], drawn: Double) -> Double | None:
    """The identification rate (R,) when each of the sorted ``people`` (N,) was ``drawn`` (R, N) so often."""
    if far * len(searches.strangers) < 1:
        return None
    mated, strangers = (
        drawn[:, np.searchsorted(people, names)] for names in (searches.mated_names, searches.stranger_names)
    )
    thresholds = accept_thresholds(searches.strangers, far, strangers)
    return weighted_mean(searches.right & (searches.mated >= thresholds[:, None]), mated)


def _interval_over_galleries(rates: Sequence[Double | None]) -> Interval | None:
    known = [rate for rate in rates if rate is not None]
    return percentile_interval(np.mean(known, axis=0)) if known else None
