"""A shard of the streams of a run: what ``trunkline run`` does for them, in an actor on one of several nodes."""

import os
import queue
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import zmq.auth
from msgspec import structs

from engines.errors import StageError, TrunklineError
from pipeline.frames.counters import FrameCounts
from pipeline.runtime.reading import Reading
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.summary import Summary
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.base import StreamSwitches

DRIVER_S: Final = 600.0  # that the first frame waits for the driver, which connects once all shards are open
BUFFERED: Final = 100_000  # messages that may wait for the driver
BEGUN_LOOK_S: Final = 0.01  # between two looks whether the run has begun


class RunControl(StreamSwitches, Protocol):
    """What tells of a run that goes on, as :class:`pipeline.service.control.Control`."""

    def reading(self) -> Reading | None:
        """Return what it tells of itself now; None before it began and once it is over."""
        ...

    def streams(self) -> tuple[StreamSettings, ...]:
        """Return its streams that were not removed."""
        ...

    def add(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        """Capture one stream more, which goes on where another run had it; TrunklineError where that cannot be."""
        ...

    def remove(self, name: str) -> None:
        """Capture a stream no longer; returns once its end was told."""
        ...


class RunStreams(Protocol):
    """What runs the streams of a configuration: :func:`pipeline.service.run.run`."""

    def __call__(
        self,
        config: Config,
        *,
        stop: threading.Event,
        wait_for_subscriber_s: float,
        started: Callable[[str], None],
        control: Any,
        held: bool,
    ) -> Summary: ...


@dataclass(frozen=True, slots=True)
class Runner:
    """How a shard runs, which this room must not know: the service room's ``run`` and ``Control``."""

    run: RunStreams
    make_control: Callable[[], RunControl]


@dataclass(frozen=True, slots=True)
class OpenedShard:
    """A shard that is open and waits for its subscriber."""

    address: str  # of its results socket
    server_key: str  # the text of its public CURVE key's file
    node: str  # the id of its node


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What a shard tells of itself."""

    counts: dict[str, FrameCounts]  # of its streams, so far
    summary: Summary | None = None  # of its run, once that is over
    refused: dict[str, str] = field(default_factory=dict)  # streams that it was given and cannot have, and why


class StreamShard:
    """Runs streams that it is given, and publishes their messages to whoever has the driver's key. Any thread may call.

    Args:
        config: of the shard, with the streams that it will have first; its publish.address is replaced.
        runner: runs them.
        driver_key: the text of the file with the driver's public CURVE key.
        folder: what relative paths begin at, where this node has it.
        host: the node's address, where the driver reaches it.
        node: the node's id.
    """

    def __init__(self, config: Config, runner: Runner, driver_key: str, folder: str, host: str, node: str) -> None:
        with suppress(OSError):  # what is missing there is refused by its own sentence
            os.chdir(folder)
        self._keys = Path(tempfile.mkdtemp(prefix="trunkline-shard-"))
        self._node = node
        public, secret = zmq.auth.create_certificates(self._keys, "shard")
        self._public = Path(public).read_text()
        (clients := self._keys / "clients").mkdir()
        (clients / "driver.key").write_text(driver_key)
        publish = structs.replace(
            config.publish,
            address=f"tcp://{f'[{host}]' if ':' in host else host}:0",
            curve_secret_file=str(secret),
            clients=str(clients),
            high_water_mark=BUFFERED,
        )
        self._config, self._runner = structs.replace(config, publish=publish), runner
        self._control = runner.make_control()
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._address: str | None = None
        self._summary: Summary | None = None
        self._failure: BaseException | None = None
        self._refused: dict[str, str] = {}
        self._changes: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()  # of streams, in their order
        threading.Thread(target=self._change, name="changes", daemon=True).start()
        threading.Thread(target=self._run, name="shard", daemon=True).start()

    def _run(self) -> None:
        try:
            summary = self._runner.run(
                self._config,
                stop=self._stop,
                wait_for_subscriber_s=DRIVER_S,
                started=self._started,
                control=self._control,
                held=True,
            )
            self._note("_summary", summary)
        except BaseException as error:  # the driver decides what becomes of it
            self._note("_failure", error)
        finally:
            shutil.rmtree(self._keys, ignore_errors=True)

    def _started(self, address: str) -> None:
        self._note("_address", address)

    def _note(self, what: str, value: object) -> None:
        with self._changed:
            setattr(self, what, value)
            self._changed.notify_all()

    def opened(self) -> OpenedShard:
        """Wait until the shard is open.

        Raises:
            TrunklineError: what its run raises.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._address is not None or self._failure is not None)
            if self._failure is not None:
                raise self._failure
            assert self._address is not None
            return OpenedShard(self._address, self._public, self._node)

    def add(self, settings: StreamSettings, resumed: Resumed) -> None:
        """Let a stream go on here, soon; :meth:`report` says where that cannot be."""
        self._changes.put(partial(self._add, settings, resumed))

    def _add(self, settings: StreamSettings, resumed: Resumed) -> None:
        self._refused.pop(settings.name, None)
        try:
            if settings.name in [each.name for each in self._control.streams()]:  # it was here and has ended
                self._control.remove(settings.name)
            self._control.add(settings, resumed)
        except TrunklineError as error:
            self._refused[settings.name] = str(error)

    def remove(self, name: str) -> None:
        """Let go of a stream, soon: its frames on their way are published, then its end is told."""
        self._changes.put(partial(self._remove, name))

    def _remove(self, name: str) -> None:
        with suppress(TrunklineError):  # the run is over, and with it the stream
            self._control.remove(name)

    def _change(self) -> None:
        """Add and remove streams, one after the other: either may wait for a source."""
        while True:
            change = self._changes.get()
            while self._control.reading() is None and self._summary is None and self._failure is None:
                time.sleep(BEGUN_LOOK_S)  # it is open, and has not begun
            change()

    def report(self) -> ShardReport:
        """Return what it counted so far.

        Raises:
            StageError: its run failed.
        """
        reading = self._control.reading()
        with self._changed:
            if self._failure is not None:
                raise StageError(f"{type(self._failure).__name__}: {self._failure}") from self._failure
            if self._summary is not None:
                return ShardReport(self._summary.streams, self._summary)
        streams = {} if reading is None else reading.streams
        return ShardReport({name: each.counts for name, each in streams.items()}, refused=dict(self._refused))

    def stop(self) -> None:
        """Let frames on their way finish, and end the run."""
        self._stop.set()
