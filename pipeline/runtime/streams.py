"""What a run lets others do with its streams while it goes on."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, Protocol

from engines.errors import ConfigError
from pipeline.runtime.reading import Reading
from pipeline.runtime.resuming import Resumed
from pipeline.settings.schema import Config, StreamSettings, Switch

REMOVED_CAUSE: Final = "removed"  # why a stream has ended that was removed


class Streams(Protocol):
    """The streams of a run. Settings were checked, and one call is carried out after the other."""

    def streams(self) -> tuple[StreamSettings, ...]:
        """Those that were not removed."""
        ...

    def reading(self) -> Reading:
        """What the run tells of itself now; any thread may ask, and no frame waits for it."""
        ...

    def add(self, settings: StreamSettings, resumed: Resumed | None = None) -> None:
        """Capture one stream more, of a name that no other has; ConfigError where there is no room for it.

        Args:
            settings: of the stream.
            resumed: where it goes on, which another run had; only where stages are threads. None: nowhere.
        """
        ...

    def change(self, settings: StreamSettings) -> None:
        """Capture the stream of this name by other settings; its frames on their way are published before."""
        ...

    def set_rate(self, settings: StreamSettings) -> None:
        """Infer the stream of this name at another ``inference_fps``: nothing else differs, and its source goes on."""
        ...

    def configured(self) -> Config:
        """The configuration as it is now, streams apart."""
        ...

    def tune(self, config: Config) -> None:
        """Go on by other values of what :data:`pipeline.settings.tuning.TUNABLE` names, and of nothing else."""
        ...

    def remove(self, name: str) -> None:
        """Capture a stream no longer; returns when its last frame and its end were told."""
        ...

    def note(self, name: str, what: Switch, on: bool) -> None:
        """Let the whole run know that a switch of a stream was set; ConfigError where it has nothing to switch."""
        ...

    def is_on(self, name: str, what: Switch) -> bool:
        """What was noted last; on, unless anything was."""
        ...


Attached = Callable[[Streams], AbstractContextManager[None]]  # the streams may be used meanwhile


def check_records(config: Config) -> None:
    """Raise ConfigError where a run records nothing that could be switched."""
    if config.record.directory is None:
        raise ConfigError("recording cannot be switched: the run records nothing, since record.directory is not set")
