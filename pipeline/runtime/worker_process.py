"""A process of a run, seen by the one that starts it, watches it and starts it again."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from signal import Signals
from typing import Any, Final

import structlog

from engines.errors import StageError, TrunklineError
from pipeline.runtime.pulse import STUCK_S, UNWATCHED, Opening, Silence
from pipeline.runtime.supervision import MAX_CRASHES, CrashLimit
from pipeline.runtime.workers.main import run_worker
from pipeline.runtime.workers.spec import REFUSED, WorkerSpec
from pipeline.settings.schema import StreamSettings

# Processes are forked from one that has loaded what they need (decision 39): none loads it again.
FORKING: Final = get_context("forkserver")
FORKING.set_forkserver_preload([run_worker.__module__, "pipeline.runtime.workers.forking"])

FORK_S: Final = 10.0  # for which it is tried to have a process forked
RETRY_S: Final = 0.05  # between two tries

log = structlog.get_logger()


class Worker:
    """A part, and the process that plays it now."""

    def __init__(self, worker_spec: WorkerSpec) -> None:
        self.worker_spec = worker_spec
        self.limit = CrashLimit()
        self.silence, self.opening = Silence(), Opening()
        self.refusals: list[TrunklineError] = []  # of the last processes, one after the other
        self.stuck = False
        self.process: ForkServerProcess | None = None
        self.pipe: Connection[Any, Any] | None = None
        self.over = False

    def start(self) -> None:
        """Let a new process play; StageError where none can be had."""
        context = self.worker_spec.context
        context.frames.beat(context.number, UNWATCHED)
        self.opening.begin(time.monotonic())
        self.stuck = False
        patience = time.monotonic() + FORK_S
        while True:
            try:
                self.pipe, self.process = self._forked()
                return
            except (OSError, EOFError) as error:
                # Who forks them may have been killed, and be neither gone yet nor there: the next try forks another.
                if isinstance(error, ConnectionError | EOFError) and time.monotonic() < patience:
                    time.sleep(RETRY_S)
                    continue
                why = getattr(error, "strerror", None) or str(error)
                raise StageError(f"process {self.worker_spec.name!r} cannot be started: {why}") from error

    def _forked(self) -> tuple["Connection[Any, Any]", ForkServerProcess]:
        ours, theirs = FORKING.Pipe()
        with closing(theirs):
            # Not daemons: those may have no children of their own, and _end_with_parent does what daemon would.
            process = FORKING.Process(target=run_worker, args=(self.worker_spec, theirs), name=self.worker_spec.name)
            process.start()
        return ours, process

    def leave(self, stream: str) -> None:
        """It captures a stream no longer, nor does one that is started in its place."""
        left = tuple(each for each in self.worker_spec.streams if each.name != stream)
        self.worker_spec = replace(self.worker_spec, streams=left)

    def change(self, settings: StreamSettings) -> None:
        """A stream has other settings, by which one that is started in its place captures it."""
        streams = tuple(settings if each.name == settings.name else each for each in self.worker_spec.streams)
        self.worker_spec = replace(self.worker_spec, streams=streams)

    def kill_if_stuck(self, now_s: float) -> None:
        """End a process that has given no sign of life for STUCK_S, or is so late in opening what it needs."""
        context = self.worker_spec.context
        sign = context.frames.last_beat(context.number)
        silent_s = max(self.silence.heard(sign, now_s), self.opening.late_s(sign, now_s))
        if silent_s > STUCK_S and not self.stuck and self.process is not None:
            self.stuck = True
            log.error("process stuck", process=self.worker_spec.name, silent_s=round(silent_s, 1))
            self.process.kill()

    def begun(self, now_s: float) -> None:
        """Note that the process has all that it needs."""
        self.opening.end(now_s)
        self.refusals.clear()

    def refused(self, error: TrunklineError) -> None:
        """Note that the process cannot have what one before it had, and dies of it; raise what ends the run.

        That is an error of any other kind, and one that has come back more than MAX_CRASHES times.
        """
        if self.opening.over or not self.worker_spec.restarts or len(self.refusals) == MAX_CRASHES:
            raise error
        self.refusals.append(error)

    def cause_of_end(self) -> str:
        """Why the process is gone."""
        assert self.process is not None
        code = self.process.exitcode or 0
        if self.stuck:
            return f"no sign of life for {STUCK_S:g} s"
        if code == REFUSED:
            return str(self.refusals[-1])
        return f"killed by {Signals(-code).name}" if code < 0 else f"exit status {code}"

    def heard(self) -> Iterator[Any]:
        """What the process said meanwhile."""
        assert self.pipe is not None
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            return
