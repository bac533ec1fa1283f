"""Tracks of strangers against a gallery: how often one would be given a name, and the threshold for a stated rate.

A pair of pictures says little about that: a track is pooled from several views, a person is as similar as the most
similar of several enrolled views, and a track has as many chances to be taken for somebody as there are people.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from engines.arrays import Array, Double, Float, Ints
from engines.errors import DataError
from engines.pooling import Pool

TRACK_VIEWS: Final = 8  # what a face shows in its first seconds
ENROLLED_VIEWS: Final = 3
DRAWS: Final = 10  # of the views, seeded


@dataclass(frozen=True, slots=True)
class Strangers:
    """Tracks of people, each compared with everybody else.

    Attributes:
        similarities: (T, P - 1) cosine of each pooled track to the most similar enrolled view of each other person.
        people: P.
    """

    similarities: Double
    people: int

    def rate(self, threshold: float, people: int) -> float:
        """The share of tracks that are given a name: someone of a gallery of so many people reaches the threshold.

        The gallery's people are drawn from the others with replacement, so it should be smaller than they are. Who
        looks like many counts as one track, not as many independent comparisons.
        """
        share = (self.similarities >= threshold).mean(axis=1)
        return float((1.0 - (1.0 - share) ** people).mean())

    def finest(self, people: int) -> float:
        """The smallest rate above 0 that so few people can show; other views of theirs add little."""
        return float(1.0 - (1.0 - 1.0 / self.similarities.shape[1]) ** people) / self.people

    def threshold(self, far: float, people: int) -> float:
        """The lowest threshold at which at most the share ``far`` of the tracks is given a name."""
        values = np.unique(self.similarities)
        values = np.append(values, np.nextafter(values[-1], np.inf))
        return float(values[bisect_left(values, True, key=lambda value: self.rate(value, people) <= far)])


def strangers_of(
    embeddings: Float,
    qualities: Sequence[float],
    identities: Array,
    *,
    enrolled_views: int = ENROLLED_VIEWS,
    draws: int = DRAWS,
) -> Strangers:
    """Pool TRACK_VIEWS of each person into a track, enrol all others, and compare; several times, with other views.

    Args:
        embeddings: (N, D) of unit length.
        qualities: (N,) in [0, 1], which pooling weighs by.
        identities: (N,) who each shows.
        enrolled_views: of each other person, or fewer where there are no more.
        draws: how often views are drawn anew.

    Raises:
        DataError: there are not two people.
    """
    generator = np.random.default_rng(0)
    people = [np.flatnonzero(identities == name) for name in np.unique(identities)]
    if len(people) < 2:
        raise DataError("identity threshold: needs faces of at least two people")
    # Pictures of one person alone would only be drawn again.
    draws = draws if max(map(len, people)) > 1 else 1
    rows = []
    for _ in range(draws):
        shuffled = [generator.permutation(views) for views in people]
        tracks = np.stack([_pooled(embeddings, qualities, views[:TRACK_VIEWS]) for views in shuffled])
        enrolled = [views[:enrolled_views] for views in map(generator.permutation, people)]
        starts = np.cumsum([0, *(len(views) for views in enrolled[:-1])])
        found = np.maximum.reduceat(tracks @ embeddings[np.concatenate(enrolled)].T, starts, axis=1)
        rows.append(found[~np.eye(len(people), dtype=np.bool_)].reshape(len(people), -1))
    return Strangers(np.concatenate(rows).astype(np.float64), len(people))


def _pooled(embeddings: Float, qualities: Sequence[float], views: Ints) -> Float:
    pool = Pool()
    for row in views.tolist():
        pool.add(embeddings[row], qualities[row])
    return pool.unit
