"""Where a process of a run begins, and how it ends with the one that started it."""

import shutil
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import parent_process
from os import _exit as exit_at_once
from typing import Any

from engines.errors import TrunklineError
from pipeline.logs import configure_logging
from pipeline.parts import part
from pipeline.parts.part import Part, Pipe, Refused
from pipeline.pulse import BEAT_S, Pulse
from pipeline.zmq_link import Place


def play(mine: Part, pipe: "Pipe[Any, Any]") -> None:
    """Be one process of a run, to its end; what it has to say goes to ``pipe``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody, and the first process decides
    if mine.logs is not None:
        configure_logging(mine.logs)
    threading.Thread(target=_end_with_parent, args=(mine.place.folder,), daemon=True).start()
    pulse = Pulse()
    threading.Thread(target=_beat, args=(mine.place, pulse), daemon=True).start()
    try:
        _role(mine.place.number)(mine, pipe, pulse)
    except TrunklineError as error:
        pipe.send(Refused(error))
    pipe.close()


def _role(number: int) -> "Callable[[Part, Pipe[Any, Any], Pulse], None]":
    # Imported here: a process loads what its own part needs.
    match number:
        case part.PREPARE:
            from pipeline.parts.prepare import prepare as role
        case part.INFER:
            from pipeline.parts.infer import infer as role
        case part.FINISH:
            from pipeline.parts.finish import finish as role
        case _:
            from pipeline.parts.capture import capture as role
    return role


def _beat(place: Place, pulse: Pulse) -> None:
    while True:
        place.frames.beat(place.number, pulse.sign(time.monotonic_ns()))
        time.sleep(BEAT_S)


def _end_with_parent(folder: str) -> None:
    """Whatever became of the process that started this one, leave nothing behind."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    exit_at_once(1)
