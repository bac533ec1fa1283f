"""Where a process of a run begins, and how it ends with the one that started it."""

import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import parent_process
from typing import Any, Final

from engines.errors import TrunklineError
from pipeline.runtime.graph import Worker
from pipeline.runtime.logs import configure_logging
from pipeline.runtime.pulse import BEAT_S, Pulse
from pipeline.runtime.workers.capture import capture
from pipeline.runtime.workers.finish import finish
from pipeline.runtime.workers.infer import infer
from pipeline.runtime.workers.postprocess import postprocess
from pipeline.runtime.workers.prepare import prepare
from pipeline.runtime.workers.spec import REFUSED, Pipe, WorkerRefused, WorkerSpec
from pipeline.runtime.zmq_link import WorkerContext

ROLES: Final[dict[Worker, Callable[[WorkerSpec, "Pipe[Any, Any]", Pulse], None]]] = {
    "capture": capture,
    "prepare": prepare,
    "infer": infer,
    "postprocess": postprocess,
    "finish": finish,
}


def run_worker(mine: WorkerSpec, pipe: "Pipe[Any, Any]") -> None:
    """Be one process of a run, to its end; what it has to say goes to ``pipe``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to everybody, and the first process decides
    if mine.logs is not None:
        configure_logging(mine.logs)
    threading.Thread(target=_end_with_parent, args=(mine.context.folder,), daemon=True).start()
    pulse = Pulse()
    threading.Thread(target=_beat, args=(mine.context, pulse), daemon=True).start()
    try:
        ROLES[mine.context.plan.worker(mine.context.number)](mine, pipe, pulse)
    except TrunklineError as error:
        pipe.send(WorkerRefused(error))
        sys.exit(REFUSED)
    finally:
        pipe.close()


def _beat(context: WorkerContext, pulse: Pulse) -> None:
    """Give signs of life; end with the process that forked this one, since nobody else can tell when this one ends."""
    forked_by = os.getppid()
    while os.getppid() == forked_by:
        begun = pulse.begun.is_set()
        context.frames.beat(context.number, pulse.sign(time.monotonic_ns()))
        if begun:
            time.sleep(BEAT_S)
        else:
            pulse.begun.wait(BEAT_S)
    os._exit(1)


def _end_with_parent(folder: str) -> None:
    """Whatever became of the process that started this one, leave nothing behind."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
