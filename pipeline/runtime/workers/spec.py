"""What the processes of a run have in common (``links = "zmq"``)."""

from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from engines.errors import TrunklineError
from pipeline.frames.types import Frame
from pipeline.runtime.logs import LogSettings
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.runtime.run_books import RunBooks
from pipeline.runtime.wakeup import Wakeup
from pipeline.runtime.zmq_link import WorkerContext
from pipeline.settings.schema import Config, StreamSettings

LOOK_S: Final = 0.05  # between two looks at what no wakeup announces
REFUSED: Final = 3  # exit status after WorkerRefused

Pipe = Connection  # to the process that started this one


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """All that a process needs to play its part."""

    name: str
    context: WorkerContext
    config: Config
    streams: tuple[StreamSettings, ...]  # that it captures
    wakeups: dict[str, Wakeup]  # of the files: rung when one more of its frames may wait
    room: Wakeup  # rung when the network's input has a free slot
    logs: LogSettings | None
    restarts: int  # how many processes before this one played the part
    open_events: OpenEventLog  # of what was announced to subscribers and has not ended
    books: RunBooks
    added: bool = False  # its streams came while the run went on: who publishes hears of them first


@dataclass(frozen=True, slots=True)
class Told:
    """What a process says of itself: once it has all that it needs, and now and then while it works."""

    reported: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerRefused:
    """A process cannot play its part, with whatever luck."""

    error: TrunklineError


@dataclass(frozen=True, slots=True)
class Done:
    """A process has nothing more to do; what it saw."""

    reported: dict[str, Any]


def drop(context: WorkerContext, frame: Frame, cause: str) -> None:
    """Give a frame up that this process holds."""
    assert frame.ticket is not None
    context.frames.release(context.number, [frame.ticket], cause)
