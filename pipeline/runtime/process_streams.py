"""Streams that are added to a run of processes, changed and removed."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from msgspec import structs

from engines.errors import ConfigError, StageError
from engines.spec import Model
from pipeline.events.zones import check_zones
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.runtime.reading import Reading
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.ring import Ring
from pipeline.runtime.sharding import choose_shard, shard_count
from pipeline.runtime.stream_rows import CHANGED, LEFT, REMOVED
from pipeline.runtime.streams import check_records
from pipeline.runtime.worker_process import Worker
from pipeline.settings.schema import Config, StreamSettings, Switch
from pipeline.sources.capture import mode, picture_bytes, waits_for_nobody

LOOK_S: Final = 0.02  # between two looks whether a stream was given up


class ProcessRun(Protocol):
    """What changing its streams needs of a run of processes."""

    config: Config
    frames: Ring
    open_events: OpenEventLog
    changing: threading.Lock
    held: bool  # while streams are changed
    over: bool
    captures: list[Worker]

    def reading(self) -> Reading:
        """What the run tells of itself now."""

    def capture(self, settings: StreamSettings) -> None:
        """Start a capture process for one stream; raise StageError where it cannot be started."""


class ProcessStreams:
    """The :class:`~pipeline.runtime.streams.Streams` of processes; each that is added has one of its own.

    The supervisor's configuration always names those that there are, for processes that are started again.
    """

    def __init__(self, supervisor: ProcessRun, model: Model, stop: threading.Event) -> None:
        self._run, self._model, self._stop = supervisor, model, stop

    def streams(self) -> tuple[StreamSettings, ...]:
        return self._run.config.streams

    def reading(self) -> Reading:
        return self._run.reading()

    def add(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        assert resumed is None  # shards of a run on several nodes have threads
        with self._holding("added", settings.name):
            self._check(settings)
            self._begin(settings)

    def change(self, settings: StreamSettings) -> None:
        with self._holding("changed", settings.name):
            self._check(settings)
            self._leave(settings.name, CHANGED)
            self._begin(settings)

    def set_rate(self, settings: StreamSettings) -> None:
        run, name = self._run, settings.name
        with self._holding("changed", name):
            run.frames.streams.set_rate(name, settings.inference_fps)
            streams = tuple(settings if each.name == name else each for each in run.config.streams)
            run.config = structs.replace(run.config, streams=streams)
            for worker in run.captures:
                worker.change(settings)

    def configured(self) -> Config:
        return self._run.config

    def tune(self, config: Config) -> None:
        """Go on by other thresholds and rates, which every process looks up, one that is started again, too."""
        self._run.config = config
        self._run.frames.streams.tune(config)

    def remove(self, name: str) -> None:
        with self._holding("removed", name):
            self._leave(name, REMOVED)

    def note(self, name: str, what: Switch, on: bool) -> None:
        if what == "record":
            check_records(self._run.config)
        self._run.frames.streams.note(name, what, on)

    def is_on(self, name: str, what: Switch) -> bool:
        return self._run.frames.streams.is_on(name, what)

    @contextmanager
    def _holding(self, done: str, name: str) -> Iterator[None]:
        run = self._run
        with run.changing:
            if run.over or self._stop.is_set():
                raise ConfigError(f"stream {name!r} cannot be {done}: the run is over")
            run.held = True
        try:
            yield
        finally:
            run.held = False

    def _check(self, settings: StreamSettings) -> None:
        """Refuse what this run has no room for, or its model no labels; a ConfigError."""
        check_zones((settings,), self._model.spec.objects)
        run = self._run
        room, largest = run.frames.layout.slot_bytes, picture_bytes(settings, run.config.zmq.live_picture)
        if largest > room:
            raise ConfigError(
                f"stream {settings.name!r}: its pictures take {largest} bytes, more than the {room} that the run has "
                "shared memory for, as its configuration says: run it anew with this stream"
            )

    def _begin(self, settings: StreamSettings) -> None:
        run, name, streams = self._run, settings.name, self._run.frames.streams
        if name in streams.names:
            shard = streams.shard(name)  # track numbers of a name go on
        else:
            others = [(streams.shard(each.name), streams.is_live(each.name)) for each in run.config.streams]
            shard = choose_shard(shard_count(run.config), waits_for_nobody(settings), others)
        run.frames.begin(name, mode(settings), shard, settings.inference_fps)
        run.open_events.begin(name)
        run.config = structs.replace(run.config, streams=(*run.config.streams, settings))
        try:
            run.capture(settings)
        except StageError as error:
            self._forget(name)
            run.open_events.over(name)
            raise ConfigError(f"stream {name!r} cannot be added: {error}") from error

    def _leave(self, name: str, wanted: int) -> None:
        """Let the process that captures a stream end that, and tell of it."""
        run = self._run
        streams = run.frames.streams
        streams.want(name, wanted)
        # A file that has ended by itself has nobody who could.
        while streams.wanted(name) != LEFT and not run.open_events.is_over(name) and not run.over:
            time.sleep(LOOK_S)
        streams.want(name, LEFT)
        self._forget(name)

    def _forget(self, name: str) -> None:
        run = self._run
        left = tuple(stream for stream in run.config.streams if stream.name != name)
        run.config = structs.replace(run.config, streams=left)
        for worker in run.captures:
            worker.leave(name)
