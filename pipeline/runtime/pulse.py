"""Signs of life: whether a process that runs gets on with its work, told to whoever started it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BEAT_S: Final = 0.5  # between two signs of life
STUCK_S: Final = 30.0  # without one, a process that has begun its work is stuck
LONGEST_LOOK_S: Final = 1.0  # of silence that one look may count: an observer that slept itself has not listened

UNWATCHED: Final = 0  # the sign of a process that opens what it needs, or is done


class Work:
    """What one stage does: it has an item in its hands, or it waits for one or for room behind it."""

    def __init__(self) -> None:
        self.since_ns: int | None = None  # time.monotonic_ns() when it got its item; None while it waits

    def begin(self) -> None:
        """It got an item."""
        self.since_ns = time.monotonic_ns()

    def rest(self) -> None:
        """It waits for the next one."""
        self.since_ns = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Meanwhile it waits for whoever takes its results."""
        worked = self.since_ns is not None
        self.rest()
        try:
            yield
        finally:
            if worked:
                self.begin()


class Pulse:
    """The signs of life of a process, made of what its stages do. Thread-safe."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._lock = threading.Lock()

    @contextmanager
    def stage(self) -> Iterator[Work]:
        """One stage more, for as long as it runs."""
        work = Work()
        with self._lock:
            self._works.append(work)
        try:
            yield work
        finally:
            with self._lock:
                self._works.remove(work)

    def sign(self, now_ns: int) -> int:
        """A number that changes from look to look unless a stage is still at the same item; UNWATCHED without stages.

        Args:
            now_ns: time.monotonic_ns().
        """
        with self._lock:
            if not self._works:
                return UNWATCHED
            return min((since for work in self._works if (since := work.since_ns) is not None), default=now_ns)


class Silence:
    """How long a process has given no sign of life; pure.

    >>> silence = Silence()
    >>> [silence.heard(sign, now_s) for sign, now_s in [(0, 5.0), (7, 5.5), (7, 6.0), (7, 6.5), (8, 7.0)]]
    [0.0, 0.0, 0.5, 1.0, 0.0]
    """

    def __init__(self) -> None:
        self._sign = UNWATCHED
        self._looked_s = self._silent_s = 0.0

    def heard(self, sign: int, now_s: float) -> float:
        """Seconds of silence, after a look at ``now_s`` at the process' last sign."""
        if sign == self._sign and sign != UNWATCHED:
            self._silent_s += min(now_s - self._looked_s, LONGEST_LOOK_S)
        else:
            self._silent_s = 0.0
        self._sign, self._looked_s = sign, now_s
        return self._silent_s
