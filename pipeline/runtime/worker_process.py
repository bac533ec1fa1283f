"""A process of a run, seen by the one that starts it, watches it and starts it again."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from signal import Signals
from typing import Any, Final

import structlog

from engines.errors import StageError
from pipeline.runtime.pulse import STUCK_S, UNWATCHED, Silence
from pipeline.runtime.supervision import CrashLimit
from pipeline.runtime.workers.main import run_worker
from pipeline.runtime.workers.spec import WorkerSpec
from pipeline.settings.schema import StreamSettings

# Processes are forked from one that has loaded what they need (decision 39): none loads it again.
FORKING: Final = get_context("forkserver")
FORKING.set_forkserver_preload([run_worker.__module__, "pipeline.runtime.workers.forking"])

log = structlog.get_logger()


class Worker:
    """A part, and the process that plays it now."""

    def __init__(self, worker_spec: WorkerSpec) -> None:
        self.worker_spec = worker_spec
        self.limit = CrashLimit()
        self.silence = Silence()
        self.stuck = False
        self.process: ForkServerProcess | None = None
        self.pipe: Connection[Any, Any] | None = None
        self.over = False

    def start(self) -> None:
        """Let a new process play; StageError where none can be had."""
        context = self.worker_spec.context
        context.frames.beat(context.number, UNWATCHED)
        self.stuck = False
        try:
            ours, theirs = FORKING.Pipe()
            with closing(theirs):
                # Not daemons: those may have no children of their own, and _end_with_parent does what daemon would.
                process = FORKING.Process(
                    target=run_worker, args=(self.worker_spec, theirs), name=self.worker_spec.name
                )
                process.start()
        except OSError as error:
            raise StageError(
                f"process {self.worker_spec.name!r} cannot be started: {error.strerror or error}"
            ) from error
        self.pipe, self.process = ours, process

    def leave(self, stream: str) -> None:
        """It captures a stream no longer, nor does one that is started in its place."""
        left = tuple(each for each in self.worker_spec.streams if each.name != stream)
        self.worker_spec = replace(self.worker_spec, streams=left)

    def change(self, settings: StreamSettings) -> None:
        """A stream has other settings, by which one that is started in its place captures it."""
        streams = tuple(settings if each.name == settings.name else each for each in self.worker_spec.streams)
        self.worker_spec = replace(self.worker_spec, streams=streams)

    def kill_if_stuck(self, now_s: float) -> None:
        """End a process that has given no sign of life for STUCK_S."""
        context = self.worker_spec.context
        silent_s = self.silence.heard(context.frames.last_beat(context.number), now_s)
        if silent_s > STUCK_S and not self.stuck and self.process is not None:
            self.stuck = True
            log.error("process stuck", process=self.worker_spec.name, silent_s=round(silent_s, 1))
            self.process.kill()

    def cause_of_end(self) -> str:
        """Why the process is gone."""
        assert self.process is not None
        code = self.process.exitcode or 0
        if self.stuck:
            return f"no sign of life for {STUCK_S:g} s"
        return f"killed by {Signals(-code).name}" if code < 0 else f"exit status {code}"

    def heard(self) -> Iterator[Any]:
        """What the process said meanwhile."""
        assert self.pipe is not None
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            return
