"""What the processes of a run have in common (``links = "zmq"``)."""

import shutil
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from os import _exit as exit_at_once
from typing import Any, Final

from engines.errors import TrunklineError
from pipeline.bell import Bell
from pipeline.config import Config, StreamSettings
from pipeline.logs import LogSettings, configure_logging
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


def play(part: Part, pipe: "Pipe[Any, Any]") -> None:
    """Be one process of a run, to its end; what it has to say goes to ``pipe``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody, and the first process decides
    if part.logs is not None:
        configure_logging(part.logs)
    threading.Thread(target=_end_with_parent, args=(part.place.folder,), daemon=True).start()
    try:
        _role(part.place.number)(part, pipe)
    except TrunklineError as error:
        pipe.send(Refused(error))
    pipe.close()


def _role(number: int) -> "Callable[[Part, Pipe[Any, Any]], None]":
    # Imported here: a process loads what its own part needs.
    match number:
        case 0:
            from pipeline.parts.prepare import prepare as role
        case 1:
            from pipeline.parts.infer import infer as role
        case 2:
            from pipeline.parts.finish import finish as role
        case _:
            from pipeline.parts.capture import capture as role
    return role


def _end_with_parent(folder: str) -> None:
    """Whatever became of the process that started this one, leave nothing behind."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    exit_at_once(1)


def drop(place: Place, frame: Frame, cause: str) -> None:
    """Give a frame up that this process holds."""
    assert frame.ticket is not None
    place.frames.release(place.number, [frame.ticket], cause)
