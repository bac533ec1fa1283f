"""What happens to a stream, told once per change; pure state."""

import time
from collections.abc import Callable
from typing import Literal

from pipeline.frames.types import Health, ReadOutcome


class Condition:
    """Turns what happens to a stream into health reports, one per change."""

    def __init__(self, stream: str, health: Callable[[Health], None]) -> None:
        self._stream = stream
        self._health = health
        self._size: tuple[int, int] | None = None  # of the pictures while the stream is up
        self._told: frozenset[str] = frozenset()  # what is unusual
        self._buffered: str | None = None
        self._down_cause: str | None = None

    def picture(
        self, size: tuple[int, int], codec: str, notes: tuple[str, ...] = (), buffered: str | None = None
    ) -> None:
        """A picture of ``size`` (width, height) came.

        Args:
            size: of it.
            codec: for people.
            notes: what is unusual about the source; each is news once.
            buffered: by how much it is; another value is news.
        """
        if size == self._size and self._told.issuperset(notes) and buffered == self._buffered:
            return
        if self._size is not None and self._size != size:
            self._report("down", f"the picture size changed from {_by(self._size)} to {_by(size)}")
        self._told = self._told.union(notes) if size == self._size else frozenset(notes)
        self._size, self._down_cause, self._buffered = size, None, buffered
        told = (f"{_by(size)} {codec}", *notes) if buffered is None else (f"{_by(size)} {codec}", *notes, buffered)
        self._report("up", ", ".join(told))

    def lost(self, cause: str) -> None:
        """The stream gives no pictures; while that lasts, only a new cause is news."""
        if self._size is not None or cause != self._down_cause:
            self._size, self._down_cause = None, cause
            self._report("down", cause)

    def ended(self, cause: str, read: ReadOutcome | None = None) -> None:
        """The stream will give no more pictures; ``read``: how much of it could be read."""
        self._report("ended", cause, read)

    def _report(self, state: Literal["up", "down", "ended"], cause: str, read: ReadOutcome | None = None) -> None:
        self._health(Health(self._stream, state, cause, time.time_ns(), read))


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
