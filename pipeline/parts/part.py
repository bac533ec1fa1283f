"""What the processes of a run have in common (``links = "zmq"``)."""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from engines.errors import TrunklineError
from pipeline.bell import Bell
from pipeline.config import Config, StreamSettings
from pipeline.journal import Journal
from pipeline.logs import LogSettings
from pipeline.types import Frame
from pipeline.zmq_link import Place

PREPARE: Final = 0
INFER: Final = 1
FINISH: Final = 2
FIRST_CAPTURE: Final = 3

LOOK_S: Final = 0.05  # between two looks at what no bell tells

Pipe = Connection  # to the process that started this one


@dataclass(frozen=True, slots=True)
class Part:
    """All that a process needs to play its part."""

    name: str
    place: Place
    config: Config
    streams: tuple[StreamSettings, ...]  # that it captures
    bells: dict[str, Bell]  # of the files: rung when one more of its frames may wait
    room: Bell  # rung when the network's input has a free slot
    logs: LogSettings | None
    lives: int  # how many processes before this one played the part
    journal: Journal  # of what was announced to subscribers and has not ended


@dataclass(frozen=True, slots=True)
class Opened:
    """A process has all that it needs; what it knows then."""

    told: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """A process cannot play its part, with whatever luck."""

    error: TrunklineError


@dataclass(frozen=True, slots=True)
class Done:
    """A process has nothing more to do; what it saw."""

    told: dict[str, Any]


def drop(place: Place, frame: Frame, cause: str) -> None:
    """Give a frame up that this process holds."""
    assert frame.ticket is not None
    place.frames.release(place.number, [frame.ticket], cause)
