"""Stream time, and what happens to a stream; pure state."""

import time
from collections.abc import Callable
from typing import Final, Literal

from pipeline.frames.types import Health

DEFAULT_PERIOD_S: Final = 1 / 25  # between two passes of a looped file, and where a file says no times


class Timeline:
    """Times of a source -> stream time: from 0, strictly rising, going on when the source begins again."""

    def __init__(self, period_s: float = DEFAULT_PERIOD_S) -> None:
        self._period_s = period_s  # where the source's times do not help
        self._last_s: float | None = None
        self._offset_s: float | None = None

    def at(self, source_s: float | None) -> float:
        """Stream time of the next frame, whose own time is ``source_s`` (None: the source does not say)."""
        due_s = 0.0 if self._last_s is None else self._last_s + self._period_s
        if source_s is None:
            time_s = due_s
        else:
            if self._offset_s is None:
                self._offset_s = due_s - source_s
            time_s = source_s + self._offset_s
        if self._last_s is not None and time_s <= self._last_s:
            time_s = due_s
        self._last_s = time_s
        return time_s

    def restart(self) -> None:
        """The source begins again: its next time follows the last frame by one period."""
        self._offset_s = None

    def skip(self, passes: int) -> None:
        """As many more passes went by as long as all so far, each followed by one period."""
        if self._last_s is not None:
            self._last_s += passes * (self._last_s + self._period_s)


class Condition:
    """Turns what happens to a stream into health reports, one per change."""

    def __init__(self, stream: str, health: Callable[[Health], None]) -> None:
        self._stream = stream
        self._health = health
        self._size: tuple[int, int] | None = None  # of the pictures while the stream is up
        self._down_cause: str | None = None

    def picture(self, size: tuple[int, int], codec: str) -> None:
        """A picture of ``size`` (width, height) came."""
        if size == self._size:
            return
        if self._size is not None:
            self._report("down", f"the picture size changed from {_by(self._size)} to {_by(size)}")
        self._size, self._down_cause = size, None
        self._report("up", f"{_by(size)} {codec}")

    def lost(self, cause: str) -> None:
        """The stream gives no pictures; while that lasts, only a new cause is news."""
        if self._size is not None or cause != self._down_cause:
            self._size, self._down_cause = None, cause
            self._report("down", cause)

    def ended(self, cause: str) -> None:
        """The stream will give no more pictures."""
        self._report("ended", cause)

    def _report(self, state: Literal["up", "down", "ended"], cause: str) -> None:
        self._health(Health(self._stream, state, cause, time.time_ns()))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
