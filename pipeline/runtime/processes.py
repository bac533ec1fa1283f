"""The stages as processes (``links = "zmq"``): started, watched, started again when they die, and ended.

Pictures and network inputs stay in two rings; only tickets to them cross the sockets. The books are in the first ring,
so that they hold whoever dies; what a dead process held is counted as dropped with the cause ``crash``.
"""

import errno
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from typing import Any, Final

import structlog
import zmq
from msgspec import structs

from engines.errors import ConfigError, StageError, TrunklineError
from engines.spec import Model
from pipeline.frames.stage_times import SKIPPED, batches_of
from pipeline.frames.types import Health
from pipeline.identity.face_entry import FACE_CROPS, FACE_RUNS
from pipeline.runtime.asking import SwitchRequest, answer
from pipeline.runtime.event_publisher import SUBSCRIBERS_BACK_S, settle
from pipeline.runtime.graph import Link, ProcessPlan
from pipeline.runtime.logs import log_settings
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.runtime.process_streams import ProcessStreams
from pipeline.runtime.reading import NO_TIMES, Reading, StreamReading
from pipeline.runtime.ring import MAX_PROCESSES, Ring
from pipeline.runtime.run_books import RunBooks
from pipeline.runtime.sharding import shard_count
from pipeline.runtime.sizing import rings, shares
from pipeline.runtime.streams import Attached
from pipeline.runtime.summary import Summary
from pipeline.runtime.supervision import HURRY_S, MAX_CRASHES, source_patience_s
from pipeline.runtime.wakeup import Wakeup
from pipeline.runtime.worker_process import Worker
from pipeline.runtime.workers.spec import Done, Told, WorkerRefused, WorkerSpec
from pipeline.runtime.zmq_link import WorkerContext
from pipeline.settings.schema import Config, PublishSettings, StreamSettings
from pipeline.sinks.base import StreamSwitches
from pipeline.sinks.fan_out import Sinks
from pipeline.sources.capture import waits_for_nobody
from pipeline.wire.build import health_message
from pipeline.wire.held_folder import HeldFolder

NOTICED_S: Final = 0.1  # after so long at the most
DRAIN_S: Final = 10.0  # that frames on their way have to finish once a run is stopped
SHORTAGES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC})

log = structlog.get_logger()


def run_processes(
    config: Config,
    model: Model,
    stop: threading.Event,
    wait_for_subscriber_s: float,
    started: Callable[[str], None],
    attached: Attached,
    switches: StreamSwitches,
) -> Summary:
    """Run every stream until all have ended or ``stop`` is set; see :func:`pipeline.service.run.run`.

    Raises:
        TrunklineError: a process cannot have what it needs; or StageError: one died too often, or cannot be started.
    """
    names = tuple(stream.name for stream in config.streams)
    try:
        with (
            HeldFolder() as folder,
            rings(config, model) as (frames, inputs),
            closing(OpenEventLog.create(names, config.zmq.spare_streams)) as open_events,
            closing(RunBooks.create(config)) as books,
        ):
            supervisor = ProcessSupervisor(config, folder, frames, inputs, open_events, books, switches)
            streams = ProcessStreams(supervisor, model, stop)
            try:
                seconds = supervisor.run(stop, wait_for_subscriber_s, started, partial(attached, streams))
            finally:
                supervisor.end()
            return supervisor.summary(seconds)
    except OSError as error:
        if error.errno not in SHORTAGES:
            raise
        raise ConfigError(
            f'links is "zmq", which needs more than this host allows here: {error.strerror}; allow it more open files '
            '(ulimit -n) or memory, or use links = "queue"'
        ) from error


class ProcessSupervisor:
    """All processes of a run."""

    def __init__(
        self,
        config: Config,
        folder: str,
        frames: Ring,
        inputs: Ring,
        open_events: OpenEventLog,
        books: RunBooks,
        switches: StreamSwitches,
    ) -> None:
        self.config, self.frames, self.open_events, self._books = config, frames, open_events, books
        self._inputs, self._switches = inputs, switches
        self._room = Wakeup()
        self._wakeups = {stream.name: Wakeup() for stream in config.streams if not waits_for_nobody(stream)}
        self._reported: dict[str, Any] = {}
        self._folder = folder
        self._given_up = False
        self.changing = threading.Lock()  # held for moments: while the lists below, or what is over, changes
        self.held = False  # streams are being added, changed or removed: the run is not over
        self.over = False  # nothing is captured any more
        self._plan = ProcessPlan(shard_count(config))
        self._steps = [self._worker(number, name) for number, name in enumerate(self._plan.names)]
        self._finish = self._steps[-1]  # who publishes
        self.captures = [
            self._worker(self._plan.first_capture + index, f"capture {index}", streams)
            for index, streams in enumerate(shares(config.streams, config.zmq.capture_processes))
        ]

    @property
    def _all(self) -> list[Worker]:
        return [*self.captures, *self._steps]

    def _worker(self, place: int, name: str, streams: tuple[StreamSettings, ...] = ()) -> Worker:
        context = WorkerContext(place, self.frames, self._inputs, self._folder, self._plan)
        worker_spec = WorkerSpec(
            name,
            context,
            self.config,
            streams,
            self._wakeups,
            self._room,
            log_settings(),
            0,
            self.open_events,
            self._books,
        )
        return Worker(worker_spec)

    def capture(self, settings: StreamSettings) -> None:
        """Capture a stream in a process of its own.

        Raises:
            StageError: no process can be had for it.
        """
        taken = {worker.worker_spec.context.number for worker in self.captures if not worker.over}
        first = self._plan.first_capture
        place = next(place for place in range(first, len(taken) + first + 1) if place not in taken)
        if place >= MAX_PROCESSES:
            raise StageError(f"no process is left to capture it: a run has {MAX_PROCESSES} at most")
        with self.frames.lock:
            self.frames.reclaim(place)
        self.frames.open(place)
        worker = self._worker(place, f"capture {place - first}", (settings,))
        worker.worker_spec = replace(worker.worker_spec, added=True)
        worker.start()
        with self.changing:
            self.captures = [*(each for each in self.captures if not each.over), worker]

    def run(
        self,
        stop: threading.Event,
        wait_for_subscriber_s: float,
        started: Callable[[str], None],
        attached: Callable[[], AbstractContextManager[None]],
    ) -> float:
        """Everything from the first process to the last; returns the seconds that streams were captured for."""
        steps = self._steps[::-1]  # whoever reads is there before whoever writes
        for worker in steps:
            worker.start()
        if not all(self._await(worker, stop) for worker in steps):
            return 0.0
        started(self._reported["address"])
        self._await_subscriber(stop, wait_for_subscriber_s)
        began = time.monotonic()
        for worker in self.captures:
            worker.start()
        with attached():
            try:
                self._watch(stop)
            finally:
                self.over = True
        return time.monotonic() - began

    def _await(self, worker: Worker, stop: threading.Event) -> bool:
        """Until a process has all that it needs, however long that takes; False when the run was stopped first."""
        assert worker.process is not None and worker.pipe is not None
        while True:
            alive = worker.process.is_alive()  # first: what it said before it died is still heard
            if self._hear(worker):
                return True
            if not alive:
                raise StageError(f"process {worker.worker_spec.name!r} died before it began: {worker.cause_of_end()}")
            if stop.is_set():
                return False
            wait([worker.pipe, worker.process.sentinel], NOTICED_S)

    def _hear(self, worker: Worker) -> bool:
        """Take in what a process said; whether that was anything."""
        heard = False
        for said in worker.heard():
            heard = True
            match said:
                case Told(reported):
                    worker.begun(time.monotonic())
                    self._reported |= reported
                case Done(reported):
                    self._reported |= reported
                case WorkerRefused(error):
                    worker.refused(error)
                case SwitchRequest():
                    assert worker.pipe is not None
                    answer(said, self._switches, worker.pipe)
        return heard

    def _await_subscriber(self, stop: threading.Event, patience_s: float) -> None:
        assert self._finish.pipe is not None
        with suppress(OSError):  # it is gone: _watch starts it again
            self._finish.pipe.send(patience_s)
        while "subscribed" not in self._reported and not stop.is_set():
            wait([self._finish.pipe, self._sentinel(self._finish)], NOTICED_S)
            self._hear(self._finish)
            if not self._alive(self._finish):
                return  # _watch starts it again
        if patience_s and not self._reported.get("subscribed"):
            log.warning("nobody subscribed", waited_s=patience_s)

    def _watch(self, stop: threading.Event) -> None:
        """Until the last process is done: who dies is started again, and who has nothing more to come is told so."""
        give_up_at: float | None = None
        while not self._finish.over:
            wait([self._sentinel(worker) for worker in self._all if not worker.over], NOTICED_S)
            for worker in [worker for worker in self._all if not worker.over]:
                if self._alive(worker):
                    self._hear(worker)
                    worker.kill_if_stuck(time.monotonic())
                else:
                    self._ended(worker)
            self._shut(stop.is_set())
            if stop.is_set() and give_up_at is None:
                give_up_at = time.monotonic() + source_patience_s(self.config.streams) + DRAIN_S
            if give_up_at is not None and time.monotonic() > give_up_at:
                log.warning("frames given up", after_s=DRAIN_S)
                self._given_up = True
                return

    def _shut(self, stopped: bool) -> None:
        """Tell those behind whom all are done; without a stream, others are waited for unless the run was stopped."""
        with self.changing:
            if stopped:
                for worker in self.captures:
                    self.frames.shut(worker.worker_spec.context.number)
            self.over = self.over or (
                all(worker.over for worker in self.captures)
                and not self.held
                and (stopped or bool(self.config.streams))
            )
        before_is_over = self.over
        for kind in dict.fromkeys(self._plan.workers):
            if not before_is_over:
                return
            workers = [self._steps[number] for number, each in enumerate(self._plan.workers) if each == kind]
            for worker in workers:
                self.frames.shut(worker.worker_spec.context.number)
            before_is_over = all(worker.over for worker in workers)

    def _ended(self, worker: Worker) -> None:
        """A process is gone: it was done, or it is started again."""
        assert worker.process is not None
        self._hear(worker)
        mine, name = worker.worker_spec.context.number, worker.worker_spec.name
        if worker.process.exitcode == 0:
            worker.over = True
            return
        with self.frames.lock:
            lost = self.frames.reclaim(mine)
            self._inputs.reclaim(mine)
        self._room.ring()
        cause = worker.cause_of_end()
        log.error("process died", process=name, cause=cause, frames_lost=sum(lost.values()))
        if not worker.limit.allows(time.monotonic()):
            raise StageError(f"process {name!r} died more than {MAX_CRASHES} times in a minute: {cause}")
        config = structs.replace(self.config, publish=self._bound())
        worker.worker_spec = replace(worker.worker_spec, restarts=worker.worker_spec.restarts + 1, config=config)
        worker.start()

    def _bound(self) -> PublishSettings:
        """Where subscribers go on listening: where the first process bound, also if the port was left open."""
        return structs.replace(self.config.publish, address=self._reported["address"])

    def _alive(self, worker: Worker) -> bool:
        return worker.process is not None and worker.process.is_alive()

    def _sentinel(self, worker: Worker) -> int:
        assert worker.process is not None
        return worker.process.sentinel

    def end(self) -> None:
        """No process is left, whatever happened; what they still held is counted as dropped."""
        self._end_processes()
        self.frames.reclaim_all("shutdown")
        try:
            self._tell_ends()
        except (TrunklineError, zmq.ZMQError, OSError) as error:
            log.warning("ends not told", error=str(error))
        for wakeup in (self._room, *self._wakeups.values()):
            wakeup.close()

    def _end_processes(self) -> None:
        running = [worker.process for worker in self._all if worker.process is not None]
        for process in running:
            process.terminate()
        patience = time.monotonic() + HURRY_S
        for process in running:
            process.join(max(0.0, patience - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()

    def _tell_ends(self) -> None:
        """Say what nobody else is left to say: what was announced has ended, and so have streams that were given up."""
        owed = bool(self.open_events.left("stopped"))
        names = [
            stream.name
            for stream in self.config.streams
            if self._given_up and not self.open_events.is_over(stream.name)
        ]
        if not owed and not names:
            return
        config = structs.replace(self.config, publish=self._bound())
        with Sinks(config, rows=self._books.sinks) as publisher:
            if owed:
                settle(publisher, self.open_events, "stopped")
            else:
                publisher.await_subscriber(SUBSCRIBERS_BACK_S, lambda: False)
            for name in names:
                report = Health(name, "ended", "the run was stopped", time.time_ns())
                publisher.send(health_message(report, self.frames.of(name)))

    def reading(self) -> Reading:
        """What the run tells of itself now."""
        frames, plan, reported = self.frames, self._plan, self._reported
        # A single shard is in the process that publishes, so that there is no link between them.
        links: tuple[Link, ...] = ("prepared", "inferred", "results") if plan.shards > 1 else ("prepared", "inferred")
        sent = {link: sum(map(frames.sent_to, plan.readers(link))) for link in links}
        pids = {
            worker.worker_spec.name: worker.process.pid
            for worker in self._all
            if worker.process is not None and worker.process.pid is not None and not worker.over
        }
        return Reading(
            {
                stream.name: StreamReading(frames.of(stream.name), frames.streams.state(stream.name))
                for stream in self.config.streams
            },
            {"frames": frames.waiting} | sent,
            reported.get("times", NO_TIMES),
            reported.get("sinks", {}),
            pids,
        )

    def summary(self, seconds: float) -> Summary:
        """What a run of so many seconds tells, once it has ended."""
        reported, books = self._reported, self._books
        rows = {name: self.frames.streams.row(name) for name in self.frames.streams.names}
        left_out = {name: count for name, row in rows.items() if (count := books.left_out(row))}
        return Summary(
            seconds=seconds,
            streams={name: self.frames.of(name) for name in rows},
            stages_ms=reported.get("stages_ms", {}),
            batches=batches_of(books.batches),
            skipped=int(books.batches[SKIPPED]),
            backend=reported.get("backend"),
            precision=reported.get("precision"),
            face_runs=int(books.faces[:, FACE_RUNS].sum()),
            face_crops=int(books.faces[:, FACE_CROPS].sum()),
            left_out=None if self.config.record.directory is None else left_out,
            ends={name: end for name, row in rows.items() if (end := books.end_of(row)) is not None},
            sinks=reported.get("sinks", {}),
        )
