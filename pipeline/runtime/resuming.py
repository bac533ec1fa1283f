"""What a run is told of a stream that another run had: one that was lost with its process or host, or gave it away."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import Counts


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where a stream goes on: books, ``seq`` and lines count on, and a file continues behind its last frame.

    Attributes:
        counts: its books so far; nothing in them is in flight.
        base: how many of its frames were captured before its source was opened at its beginning.
        lines: how many objects have crossed each of its lines so far.
        restarts: how often streams went on elsewhere before: no track takes the number of an earlier one.
    """

    counts: FrameCounts
    base: int = 0
    lines: Mapping[str, Counts] = field(default_factory=dict)
    restarts: int = 0
