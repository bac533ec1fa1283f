"""Streams of a run that goes on: added, changed and removed."""

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from engines.errors import ConfigError
from pipeline.runtime.streams import Streams
from pipeline.settings.check import check_stream
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import check_source
from pipeline.sources.kind import settled


class Control:
    """Adds, changes and removes streams of a run that goes on. Thread-safe: one call is carried out after the other.

    What is refused changes nothing, and no other stream notices any of it. A removed stream's frames on their way are
    still published, then its tracks end and its health says ``ended``; a changed stream's ``down``, and it comes up as
    a new one. Calls that end a capture wait for it, as long as its ``timeout_s`` where its source hangs in a read. A
    run whose streams have all been removed goes on and waits for others; one whose streams have all ended is over.

    Example::

        control = Control()
        threading.Thread(target=run, args=(config,), kwargs={"stop": stop, "control": control}).start()
        control.add(StreamSettings(name="yard", source="rtsp://camera.local/yard"))
    """

    def __init__(self) -> None:
        self._run: Streams | None = None
        self._lock = threading.Lock()

    @contextmanager
    def of(self, run: Streams) -> Iterator[None]:
        """Control this run meanwhile."""
        with self._lock:
            self._run = run
        try:
            yield
        finally:
            with self._lock:
                self._run = None

    def streams(self) -> tuple[StreamSettings, ...]:
        """The streams of the run that were not removed; none before it began and once it is over."""
        run = self._run
        return () if run is None else run.streams()

    def add(self, settings: StreamSettings) -> None:
        """Capture one stream more.

        Raises:
            TrunklineError: there is a stream of this name, its source cannot be used, a setting is not allowed, there
                is no room for it, or no run goes on.
        """
        with self._running() as run:
            if settings.name in _names(run):
                raise ConfigError(f"stream {settings.name!r} cannot be added: there is one of this name already")
            settings = settled(settings)
            check_settings(settings)
            run.add(settings)

    def change(self, settings: StreamSettings) -> None:
        """Capture the stream of this name by other settings; nothing happens where they are as before.

        Raises:
            TrunklineError: there is no stream of this name, or as for :meth:`add`.
        """
        with self._running() as run:
            known = {stream.name: stream for stream in run.streams()}
            if settings.name not in known:
                raise ConfigError(f"stream {settings.name!r} cannot be changed: {_there_are(known)}")
            settings = settled(settings)
            if known[settings.name] != settings:
                check_settings(settings)
                run.change(settings)

    def remove(self, name: str) -> None:
        """Capture a stream no longer; returns once its end was told.

        Raises:
            ConfigError: there is no stream of this name, or no run goes on.
        """
        with self._running() as run:
            if name not in (known := _names(run)):
                raise ConfigError(f"stream {name!r} cannot be removed: {_there_are(known)}")
            run.remove(name)

    @contextmanager
    def _running(self) -> Iterator[Streams]:
        with self._lock:
            if self._run is None:
                raise ConfigError("streams can be added, changed and removed only while a run goes on")
            yield self._run


class Switches:
    """Streams that are switched off and on again, by sinks of the run; see :class:`pipeline.sinks.base.StreamSwitches`.

    A stream that is off is one that was removed, and one that is on again one that was added.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._paused: dict[str, StreamSettings] = {}

    def pause(self, stream: str) -> None:
        """Remove a stream, and remember its settings; ConfigError as of :meth:`Control.remove`."""
        settings = next((each for each in self._control.streams() if each.name == stream), None)
        self._control.remove(stream)
        if settings is not None:
            self._paused[stream] = settings

    def resume(self, stream: str) -> None:
        """Add a paused stream again; ConfigError where it is not paused, or as of :meth:`Control.add`.

        One that somebody else has added meanwhile stays as it is.
        """
        if stream not in self._paused:
            raise ConfigError(f"stream {stream!r} cannot be switched on: it was not switched off")
        if all(each.name != stream for each in self._control.streams()):
            self._control.add(self._paused[stream])
        del self._paused[stream]


def _names(run: Streams) -> list[str]:
    return [stream.name for stream in run.streams()]


def _there_are(names: Collection[str]) -> str:
    return f"there is none of this name, but {', '.join(sorted(names)) or 'none'}"


def check_settings(settings: StreamSettings) -> None:
    """Refuse a stream that could not be captured, with a TrunklineError."""
    check_stream(settings)
    check_source(settings)
