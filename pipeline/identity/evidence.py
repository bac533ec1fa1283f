"""The evidence of all views of a face track, and whether they still show one face.

A tracker can go over from one person to another. So each view is compared with those before it: how far it falls short
of what views of one face have in common adds up, as in Page's cumulative sum test ("Continuous Inspection Schemes",
Biometrika 41, 1954), and when there is too much of it the track is taken for someone else's from there on.
"""

from dataclasses import dataclass, field
from typing import Final

from engines.arrays import Float
from engines.pooling import Pool

STRANGER: Final = 0.15  # cosine of a view to the pooled views of another person, about the median
ALIKE: Final = 0.85  # agreement from which views count as of one kind; two or three seem more alike than they are
AKIN: Final = 0.2  # cosine of doubtful views to those before from which both may show one person; above most strangers'
ENOUGH: Final = 0.4  # cosine of doubtful views to the enrolled ones of a person; one stranger in twenty reaches it
TURN: Final = 0.5  # shortfall at which a track has turned to someone else: at least two views


@dataclass(slots=True)
class Evidence:
    """The views of one face track; pure state."""

    pool: Pool = field(default_factory=Pool)
    doubtful: Pool = field(default_factory=Pool)  # views since they began to fall short
    shortfall: float = 0.0

    def add(self, embedding: Float, quality: float, frontal: float) -> None:
        """Add one more view.

        Args:
            embedding: (D,) unit.
            quality: in [0, 1], its weight.
            frontal: in [0, 1]; a turned head is unlike itself, so it says less against the views before.
        """
        if not self.pool.views:
            self.pool.add(embedding, quality)
            return
        # Half-way between what this track's views and what two people have in common.
        expected = (min(self.pool.agreement, ALIKE) + STRANGER) / 2
        missing = expected - float(self.pool.unit @ embedding)
        self.shortfall = max(0.0, self.shortfall + frontal * missing)
        if self.shortfall:
            self.doubtful.add(embedding, quality)
            return
        self.pool.add(embedding, quality)
        if self.doubtful.views:
            self.settle(same=True)

    @property
    def turned(self) -> bool:
        """Return whether the track seems to show another face now; then :meth:`settle` comes next."""
        return self.shortfall >= TURN

    @property
    def resemblance(self) -> float:
        """Return the cosine of the doubtful views to those before; there must be some of both."""
        return float(self.pool.unit @ self.doubtful.unit)

    @property
    def all(self) -> Pool:
        """Return all views, the doubtful ones, too."""
        return self.pool.joined(self.doubtful) if self.doubtful.views else self.pool

    def settle(self, *, same: bool) -> None:
        """End the doubt: keep all views where they show the ``same`` face, else the doubtful ones alone."""
        self.pool, self.doubtful, self.shortfall = (self.all if same else self.doubtful), Pool(), 0.0
