"""Views of one face, pooled into one embedding; serving and calibration call the same code."""

import math
from typing import Final, Self

import numpy as np

from engines.arrays import Double, Float

FADE: Final = 0.95  # what earlier views still count with each new one: half after 14
MIN_QUALITY: Final = 0.05  # quality that the worst view is taken for
SHARPNESS: Final = 4  # a view weighs its quality to this power: qualities lie close together


class Pool:
    """The mean of unit embeddings, good ones weighing more, and newer ones a little.

    >>> pool = Pool()
    >>> pool.add(np.array([1.0, 0.0], np.float32), 0.5)
    >>> pool.add(np.array([0.0, 1.0], np.float32), 0.5)
    >>> pool.views, pool.unit.round(2).tolist(), round(pool.agreement, 2)
    (2, [0.69, 0.73], 0.71)

    Attributes:
        views: that went in.
    """

    __slots__ = ("_sum", "_unit", "_weight", "views")

    def __init__(self) -> None:
        self.views = 0
        self._sum: Double = np.zeros(0)
        self._weight = 0.0
        self._unit: Float | None = None

    def add(self, embedding: Float, quality: float) -> None:
        """Take in one more unit ``embedding`` (D,) of a quality in [0, 1]."""
        weight = max(quality, MIN_QUALITY) ** SHARPNESS
        self._fade_in(weight * embedding.astype(np.float64), weight, 1)

    def joined(self, other: Self) -> Self:
        """All views of both, those of the other as the newer ones."""
        both = type(self)()
        for pool in (self, other):
            if pool.views:
                both._fade_in(pool._sum, pool._weight, pool.views)
        return both

    @property
    def unit(self) -> Float:
        """The mean (D,), made a unit vector; there must be a view."""
        if self._unit is None:
            self._unit = np.asarray(self._sum / max(self._length, 1e-9), np.float32)
        return self._unit

    @property
    def agreement(self) -> float:
        """Length of the mean before it is made a unit vector: 1 where all views are alike, 0 where they cancel out."""
        return self._length / max(self._weight, 1e-9)

    @property
    def _length(self) -> float:
        return math.sqrt(self._sum @ self._sum)

    def _fade_in(self, weighted: Double, weight: float, views: int) -> None:
        kept = FADE**views
        self._sum = kept * self._sum + weighted if self.views else weighted
        self._weight = kept * self._weight + weight
        self.views += views
        self._unit = None
