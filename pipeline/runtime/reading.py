"""What a run that goes on tells of itself, at one moment."""

from dataclasses import dataclass, field
from typing import Final

from pipeline.frames.counters import FrameCounts, StreamState
from pipeline.frames.stage_times import Histogram, Times
from pipeline.sinks.base import SinkCounts

NO_TIMES: Final = Times({}, Histogram(), 0)


@dataclass(frozen=True, slots=True)
class StreamReading:
    """One stream that was not removed."""

    counts: FrameCounts
    state: StreamState


@dataclass(frozen=True, slots=True)
class Reading:
    """A run that goes on. With ``links = "zmq"``, ``times`` and ``sinks`` are up to a second old.

    A process that is started again counts them anew.
    """

    streams: dict[str, StreamReading] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)  # frames by the link that they wait in
    times: Times = NO_TIMES
    sinks: dict[str, SinkCounts] = field(default_factory=dict)
    processes: dict[str, int] = field(default_factory=dict)  # their ids by what they do, but for this one
