"""Streams of a run on several nodes that goes on: added, changed, removed and spread."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from engines.errors import ConfigError
from pipeline.cluster.placement import check_clustered_stream
from pipeline.cluster.supervisor import ShardSupervisor
from pipeline.settings.check import check_stream
from pipeline.settings.schema import Config, StreamSettings, Switch
from pipeline.settings.tuning import tuning_of
from pipeline.sources.kind import settled


class ClusterControl:
    """Does for a run on several nodes what :class:`pipeline.service.control.Control` does for one; for any thread.

    Calls return once the run has taken a change over; the nodes carry it out. A source that its node refuses ends its
    stream, with the cause.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._run: ShardSupervisor | None = None

    @contextmanager
    def of(self, run: ShardSupervisor) -> Iterator[None]:
        """Control this run meanwhile."""
        self._run = run
        try:
            yield
        finally:
            self._run = None

    def streams(self) -> tuple[StreamSettings, ...]:
        """The streams of the run that were not removed; none before it began and once it is over."""
        run = self._run
        return () if run is None else run.moves.streams()

    def paused(self) -> tuple[StreamSettings, ...]:
        """None: no stream is switched off."""
        return ()

    def check(self, settings: StreamSettings) -> None:
        """Refuse a stream that no node could have, with a ConfigError; its source is for its node to try."""
        check_stream(settings)
        check_clustered_stream(f"stream {settings.name!r}", settings)

    def add(self, settings: StreamSettings) -> None:
        """Capture one stream more.

        Raises:
            ConfigError: there is a stream of this name, a setting is not allowed, there is no room, or no run goes on.
        """
        self.check(settings)
        self._call(lambda run: run.moves.add(settled(settings)))

    def change(self, settings: StreamSettings) -> None:
        """Capture the stream of this name by other settings; raises as :meth:`add`."""
        self.check(settings)
        self._call(lambda run: run.moves.change(settled(settings)))

    def remove(self, name: str) -> None:
        """Capture a stream no longer; ConfigError where there is none of this name, or no run goes on."""
        self._call(lambda run: run.moves.remove(name))

    def is_on(self, stream: str, what: Switch) -> bool:
        """Whether something of a stream is switched on; all is."""
        return True

    def switch(self, stream: str, what: Switch, on: bool) -> None:
        """Refuse it, unless it is so.

        Raises:
            ConfigError: it is to be off.
        """
        if not on:
            raise ConfigError(f"stream {stream!r}: {what} cannot be switched off while a run on several nodes goes on")

    def spread(self) -> None:
        """Make the streams of nodes and shards even; ConfigError where no run goes on."""
        self._call(lambda run: run.moves.spread())

    def tuning(self) -> dict[str, Any]:
        """What :data:`pipeline.settings.tuning.TUNABLE` names, as the run began with it."""
        return tuning_of(self._config)

    def tune(self, keys: Mapping[str, Any]) -> None:
        """Refuse it.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{', '.join(sorted(keys))} cannot change while a run on several nodes goes on: restart it")

    def _call(self, change: Callable[[ShardSupervisor], None]) -> None:
        if (run := self._run) is None:
            raise ConfigError("streams can be added, changed and removed only while a run goes on")
        run.call(lambda: change(run))
