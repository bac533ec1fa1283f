"""A configuration that is read again while its run goes on."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from engines.errors import ConfigError, TrunklineError
from pipeline.settings.schema import Config, StreamSettings
from pipeline.settings.tuning import tuned, tuning_of
from pipeline.sources.kind import settled

log = structlog.get_logger()


class Reloaded(msgspec.Struct, frozen=True):
    """What was different in a configuration, and is taken over."""

    added: tuple[str, ...] = ()  # names of streams
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()  # keys, such as inference.fps
    needs_restart: tuple[str, ...] = ()  # what else is different, and was not taken over


class Reloadable(Protocol):
    """What changes a run, as :class:`pipeline.service.control.Control`."""

    def streams(self) -> tuple[StreamSettings, ...]: ...
    def paused(self) -> tuple[StreamSettings, ...]: ...
    def check(self, settings: StreamSettings) -> None: ...
    def add(self, settings: StreamSettings) -> None: ...
    def change(self, settings: StreamSettings) -> None: ...
    def remove(self, name: str) -> None: ...
    def tuning(self) -> dict[str, Any]: ...
    def tune(self, keys: Mapping[str, Any]) -> None: ...


def reload(read: Callable[[], Config], running: Config, control: Reloadable) -> Reloaded:
    """Take over the streams that were added to a configuration, changed in it and removed from it, and what
    :data:`pipeline.settings.tuning.TUNABLE` names; log each.

    What else is different needs a restart, and is said so. A configuration that cannot be read, or with a stream that
    cannot be used, changes nothing.

    Args:
        read: reads the configuration.
        running: that the run began with.
        control: of the run.

    Raises:
        ConfigError: it was not taken over, or only in part, as the sentence says.
    """
    before = _streams(control)
    try:
        config, tuning = read(), control.tuning()
        after = {stream.name: settled(stream) for stream in config.streams}
        for name, settings in after.items():
            if before.get(name) != settings:
                control.check(settings)
    except TrunklineError as error:
        log.error("configuration not taken over", error=str(error))
        raise ConfigError(f"configuration not taken over: {error}") from error
    wanted = {key: value for key, value in tuning_of(config).items() if value != tuning.get(key, value)}
    rest, keys = tuned(config, tuning_of(running)), [key for key in Config.__struct_fields__ if key != "streams"]
    restart = tuple(key for key in keys if getattr(rest, key) != getattr(running, key))
    for key in restart:
        log.warning("configuration not taken over", error=f"{key} is different, which needs a restart")
    done: dict[str, list[str]] = {"added": [], "changed": [], "removed": []}
    retuned = False
    try:
        if wanted:
            control.tune(wanted)
            retuned = True
            log.info("settings changed", keys=sorted(wanted))
        for name, settings in after.items():  # before any is removed: a run whose last stream has ended is over
            if name not in before:
                control.add(settings)
                _note(done, "added", name)
            elif before[name] != settings:
                control.change(settings)
                _note(done, "changed", name)
        for name in before.keys() - after.keys():
            control.remove(name)
            _note(done, "removed", name)
    except TrunklineError as error:
        extent = "taken over in part" if retuned or _streams(control) != before else "not taken over"
        log.error(f"configuration {extent}", error=str(error))
        raise ConfigError(f"configuration {extent}: {error}") from error
    return Reloaded(
        **{verb: tuple(sorted(names)) for verb, names in done.items()}, tuned=tuple(wanted), needs_restart=restart
    )


def _note(done: dict[str, list[str]], verb: str, name: str) -> None:
    done[verb].append(name)
    log.info(f"stream {verb}", stream=name)


def _streams(control: Reloadable) -> dict[str, StreamSettings]:
    """Those that are there, switched off or not."""
    return {stream.name: stream for stream in (*control.streams(), *control.paused())}
