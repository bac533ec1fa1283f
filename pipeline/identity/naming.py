"""The names of faces: open-set, with hysteresis, and each name at most once in a frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.frames.types import Identity

LEAD: Final = 0.05  # cosine by which the best person must be ahead of the second
KEEP: Final = 0.1  # cosine below the threshold down to which a name is kept
TAKEOVER: Final = 0.1  # cosine by which a face must resemble a person more than the one that bears the name


@dataclass(frozen=True, slots=True)
class Ranking:
    """The people whom a face resembles most."""

    first: Identity
    second: float = -1.0  # cosine of the next one

    def choose(self, threshold: float, current: Identity | None) -> Identity | None:
        """Return the name for the face, or None for an unknown one.

        Args:
            threshold: cosine from which a face is someone.
            current: the name that it bears, with the cosine to that person as it is now.
        """
        if current is not None and current.name == self.first.name:
            return self.first if self.first.score >= threshold - KEEP else None
        if self.first.score >= threshold and self.first.score - self.second >= LEAD:
            return self.first
        return current if current is not None and current.score >= threshold - KEEP else None


class NameAssigner:
    """The assignment of names in a stream: a name keeps its face unless another resembles the person clearly more.

    Every face claims one name at most, so giving each name to its best claim is the assignment of the greatest sum.
    """

    def __init__(self) -> None:
        self._tracks: dict[str, int] = {}

    def assign(self, ids: Sequence[int], candidates: Sequence[Identity | None]) -> list[Identity | None]:
        """Return the candidates of a frame's tracks that hold; of several for one name, all others become None.

        Args:
            ids: of the tracks, each once.
            candidates: of the same tracks.
        """
        best: dict[str, int] = {}
        for row, candidate in enumerate(candidates):
            if candidate is not None:
                rival = best.setdefault(candidate.name, row)
                if rival != row and self._worth(ids[row], candidate) > self._worth(ids[rival], candidates[rival]):
                    best[candidate.name] = row
        held: list[Identity | None] = [None] * len(candidates)
        for name, row in best.items():
            held[row] = candidates[row]
            self._tracks[name] = ids[row]
        return held

    def _worth(self, track: int, candidate: Identity | None) -> tuple[float, int]:
        """Return the sort key of a candidate among those for one name; of equal ones the older track comes first."""
        assert candidate is not None
        return candidate.score + (TAKEOVER if self._tracks.get(candidate.name) == track else 0.0), -track

    def forget(self, track: int) -> None:
        """Forget a track that has ended."""
        self._tracks = {name: holder for name, holder in self._tracks.items() if holder != track}
