"""Heartbeats: whether the stages of a process make progress, for the process that started it."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

BEAT_S: Final = 0.5  # between two signs of life
STUCK_S: Final = 30.0  # without one, a process that has begun its work is stuck
OPENINGS: Final = 10  # a later process may take so many times as long to open what it needs as the first one took
LONGEST_LOOK_S: Final = 1.0  # of silence that one look may count: an observer that slept itself has not listened

UNWATCHED: Final = 0  # the sign of a process that opens what it needs, or is done


class Work:
    """The state of one stage: processing an item, waiting for one, or waiting for room in the next link."""

    def __init__(self) -> None:
        self.since_ns: int | None = None  # time.monotonic_ns() when it got its item; None while it waits

    def begin(self) -> None:
        """Note that the stage got an item."""
        self.since_ns = time.monotonic_ns()

    def rest(self) -> None:
        """Note that the stage waits for an item."""
        self.since_ns = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count the block as waiting for the stage that takes the results."""
        worked = self.since_ns is not None
        self.rest()
        try:
            yield
        finally:
            if worked:
                self.begin()


class Pulse:
    """The heartbeat of a process, from the state of its stages. Thread-safe."""

    def __init__(self) -> None:
        self._works: list[Work] = []
        self._lock = threading.Lock()
        self.begun = threading.Event()  # set with the first stage: who stops right after it has given a sign

    @contextmanager
    def stage(self) -> Iterator[Work]:
        """Watch one more stage while the block runs."""
        work = Work()
        with self._lock:
            self._works.append(work)
        self.begun.set()
        try:
            yield work
        finally:
            with self._lock:
                self._works.remove(work)

    def sign(self, now_ns: int) -> int:
        """Return a number that changes with each call unless a stage is at the same item; UNWATCHED without stages.

        Args:
            now_ns: time.monotonic_ns().
        """
        with self._lock:
            if not self._works:
                return UNWATCHED
            return min((since for work in self._works if (since := work.since_ns) is not None), default=now_ns)


class Silence:
    """Measure for how long a process has given no heartbeat; pure.

    >>> silence = Silence()
    >>> [silence.heard(sign, now_s) for sign, now_s in [(0, 5.0), (7, 5.5), (7, 6.0), (7, 6.5), (8, 7.0)]]
    [0.0, 0.0, 0.5, 1.0, 0.0]
    """

    def __init__(self) -> None:
        self._sign = UNWATCHED
        self._looked_s = self._silent_s = 0.0

    def heard(self, sign: int, now_s: float) -> float:
        """Return the seconds since the last heartbeat, for one that was read at ``now_s``."""
        if sign == self._sign and sign != UNWATCHED:
            self._silent_s += min(now_s - self._looked_s, LONGEST_LOOK_S)
        else:
            self._silent_s = 0.0
        self._sign, self._looked_s = sign, now_s
        return self._silent_s


class Opening:
    """Measure by how much a process is late in opening what it needs; pure.

    The first one may take its time (an engine may be built, a run waits for it); a later one, whose sign stays
    UNWATCHED for much longer than that, hangs.
    """

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._began_s = self._looked_s = self._taken_s = 0.0
        self.over = False

    def begin(self, now_s: float) -> None:
        """Note that a process starts."""
        self._began_s = self._looked_s = now_s
        self._taken_s, self.over = 0.0, False

    def end(self, now_s: float) -> None:
        """Note that it has all that it needs."""
        self.over = True
        if self._first_s is None:
            self._first_s = now_s - self._began_s

    def late_s(self, sign: int, now_s: float) -> float:
        """Return the seconds by which it is late, from a sign that was read at ``now_s``; 0 without a first one."""
        self.over = self.over or sign != UNWATCHED
        self._taken_s += min(now_s - self._looked_s, LONGEST_LOOK_S)
        self._looked_s = now_s
        if self.over or self._first_s is None:
            return 0.0
        return max(0.0, self._taken_s - OPENINGS * self._first_s)
