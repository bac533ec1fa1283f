"""What a run is told of one that was lost with its process or host, and whose streams it takes over."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import Counts


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where the streams of a run go on: books, ``seq`` and lines count on, and a file continues behind its last frame.

    Attributes:
        counts: the books of each stream so far; nothing in them is in flight.
        lines: how many objects have crossed each line so far, by stream and line.
        restarts: how many runs were lost before: no track takes the number of theirs.
    """

    counts: Mapping[str, FrameCounts] = field(default_factory=dict)
    lines: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)
    restarts: int = 0
