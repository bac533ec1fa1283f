"""A configuration that is read again while its run goes on."""

from collections.abc import Callable

import structlog

from engines.errors import TrunklineError
from pipeline.service.control import Control, check_settings
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sources.kind import settled

log = structlog.get_logger()


def reload(read: Callable[[], Config], running: Config, control: Control) -> None:
    """Take over the streams that were added to a configuration, changed in it and removed from it; log each.

    What else is different needs a restart, and is said so. A configuration that cannot be read, or with a stream that
    cannot be used, changes nothing.

    Args:
        read: reads the configuration.
        running: that the run began with.
        control: of the run.
    """
    before = _streams(control)
    try:
        config = read()
        after = {stream.name: settled(stream) for stream in config.streams}
        for name, settings in after.items():
            if before.get(name) != settings:
                check_settings(settings)
    except TrunklineError as error:
        log.error("configuration not taken over", error=str(error))
        return
    for key in Config.__struct_fields__:
        if key != "streams" and getattr(config, key) != getattr(running, key):
            log.warning("configuration not taken over", error=f"{key} is different, which needs a restart")
    try:
        for name, settings in after.items():  # before any is removed: a run whose last stream has ended is over
            if name not in before:
                control.add(settings)
                log.info("stream added", stream=name)
            elif before[name] != settings:
                control.change(settings)
                log.info("stream changed", stream=name)
        for name in before.keys() - after.keys():
            control.remove(name)
            log.info("stream removed", stream=name)
    except TrunklineError as error:
        untouched = _streams(control) == before
        log.error(f"configuration {'not taken over' if untouched else 'taken over in part'}", error=str(error))


def _streams(control: Control) -> dict[str, StreamSettings]:
    """Those that are there, switched off or not."""
    return {stream.name: stream for stream in (*control.streams(), *control.paused())}
