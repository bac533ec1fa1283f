"""Streams of a run that goes on: added, changed and removed."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, get_args

from msgspec import structs

from engines.errors import ConfigError
from pipeline.runtime.reading import Reading
from pipeline.runtime.resuming import Resumed
from pipeline.runtime.streams import Streams
from pipeline.settings.check import check_stream
from pipeline.settings.schema import StreamSettings, Switch
from pipeline.settings.tuning import tuned, tuning_of
from pipeline.sources.capture import check_source
from pipeline.sources.kind import settled

SWITCHES: Final[tuple[Switch, ...]] = get_args(Switch)


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
        self._paused: dict[str, StreamSettings] = {}  # streams whose detection is switched off
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
        """The streams of the run that were not removed or switched off; none before it began and once it is over."""
        run = self._run
        return () if run is None else run.streams()

    def reading(self) -> Reading | None:
        """What the run tells of itself now; None before it began and once it is over."""
        run = self._run
        return None if run is None else run.reading()

    def paused(self) -> tuple[StreamSettings, ...]:
        """The streams whose detection is switched off, by the settings they will have."""
        return tuple(self._paused.copy().values())

    def check(self, settings: StreamSettings) -> None:
        """Refuse a stream that could not be captured, with a TrunklineError."""
        check_stream(settings)
        check_source(settings)

    def add(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        """Capture one stream more.

        Args:
            settings: of the stream.
            resumed: where it goes on, which another run had; None: it is new.

        Raises:
            TrunklineError: there is a stream of this name, its source cannot be used, a setting is not allowed, there
                is no room for it, or no run goes on.
        """
        with self._running() as run:
            if settings.name in self._names(run):
                raise ConfigError(f"stream {settings.name!r} cannot be added: there is one of this name already")
            settings = settled(settings)
            self.check(settings)
            run.add(settings, resumed)

    def change(self, settings: StreamSettings) -> None:
        """Capture the stream of this name by other settings; nothing happens where they are as before.

        Where ``inference_fps`` alone is another, its source goes on. One that is switched off will have them once it is
        on again.

        Raises:
            TrunklineError: there is no stream of this name, or as for :meth:`add`.
        """
        with self._running() as run:
            known = {stream.name: stream for stream in run.streams()} | self._paused
            if settings.name not in known:
                raise ConfigError(f"stream {settings.name!r} cannot be changed: {_there_are(known)}")
            settings = settled(settings)
            if known[settings.name] == settings:
                return
            self.check(settings)
            if settings.name in self._paused:
                self._paused[settings.name] = settings
            elif structs.replace(known[settings.name], inference_fps=settings.inference_fps) == settings:
                run.set_rate(settings)
            else:
                run.change(settings)

    def remove(self, name: str) -> None:
        """Capture a stream no longer; returns once its end was told.

        Raises:
            ConfigError: there is no stream of this name, or no run goes on.
        """
        with self._running() as run:
            if name not in (known := self._names(run)):
                raise ConfigError(f"stream {name!r} cannot be removed: {_there_are(known)}")
            if name in self._paused:
                run.note(name, "detect", True)  # first: from here on its end is taken for its removal
                run.add(self._paused.pop(name))  # for a moment: its end is told as that of any other
            run.remove(name)
            if not run.is_on(name, "record"):
                run.note(name, "record", True)  # last: nothing more of it is recorded

    def tuning(self) -> dict[str, Any]:
        """What :data:`pipeline.settings.tuning.TUNABLE` names, as it is now; nothing where no run goes on."""
        run = self._run
        return {} if run is None else tuning_of(run.configured())

    def tune(self, keys: Mapping[str, Any]) -> None:
        """Let the run go on by other values of some of those keys, None: their defaults.

        Rates hold from the next frame of each stream on, thresholds from the next batch: tracks that a detection would
        not start any more go on while it is weaker by ``tracking.low_score_ratio`` at most.

        Raises:
            ConfigError: a key needs a restart, a value is not allowed, or no run goes on; nothing has changed.
        """
        with self._running() as run:
            run.tune(tuned(run.configured(), keys))

    def switch(self, stream: str, what: Switch, on: bool) -> None:
        """Switch a stream's detection or recording on or off; nothing happens where it is so.

        With detection off a stream is not captured: it is removed, and added again by the settings it had.

        Raises:
            TrunklineError: there is no stream of this name, or nothing to switch; or as for :meth:`add`.
        """
        with self._running() as run:
            if stream not in (known := self._names(run)):
                raise ConfigError(f"stream {stream!r} cannot be switched: {_there_are(known)}")
            if run.is_on(stream, what) == on:
                return
            run.note(stream, what, on)  # first: the end of its capture is not taken for its removal
            if what == "detect":
                try:
                    self._detect(run, stream, on)
                except BaseException:
                    run.note(stream, what, not on)
                    raise

    def is_on(self, stream: str, what: Switch) -> bool:
        """Whether something of a stream is switched on; it is, unless it was switched off."""
        run = self._run
        return run is None or run.is_on(stream, what)

    def _detect(self, run: Streams, stream: str, on: bool) -> None:
        if on:
            run.add(self._paused[stream])
            del self._paused[stream]
            return
        settings = next(each for each in run.streams() if each.name == stream)
        run.remove(stream)
        self._paused[stream] = settings

    def _names(self, run: Streams) -> list[str]:
        return [*(stream.name for stream in run.streams()), *self._paused]

    @contextmanager
    def _running(self) -> Iterator[Streams]:
        with self._lock:
            if self._run is None:
                raise ConfigError("streams can be added, changed and removed only while a run goes on")
            yield self._run


def _there_are(names: Collection[str]) -> str:
    return f"there is none of this name, but {', '.join(sorted(names)) or 'none'}"
