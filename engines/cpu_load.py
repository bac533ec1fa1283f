"""How busy the processor is, whoever keeps it busy."""

from pathlib import Path
from typing import Final, NamedTuple

from engines.hardware import allowed_cores, usable_cores

STAT: Final = Path("/proc/stat")
LOOK_NS: Final = 250_000_000  # between two readings: the kernel counts in steps of 10 ms
NEW_SHARE: Final = 0.5  # of the latest reading in the result, so that it forgets in a second
COUNTED: Final = 8  # fields of a core's line; what follows is in the first ones already
IDLE: Final = slice(3, 5)  # of those: idle, and idle while a disk works


class Ticks(NamedTuple):
    """Time that cores have passed since the start of the machine, in the kernel's steps."""

    idle: int
    all: int


class CpuLoad:
    """The share of their time for which the cores that this process may run on were busy of late.

    Work of other processes counts. On a system without ``/proc/stat`` it is 0 for ever.
    """

    def __init__(self, stat: Path = STAT) -> None:
        self._stat = stat
        self._cores, self._usable = allowed_cores(), usable_cores()
        self._before = self._read()
        self._looked_ns: int | None = None
        self._share = 0.0

    def idle_cores(self, now_ns: int) -> int:
        """How many cores nobody used of late, rounded; ``now_ns``: time.monotonic_ns()."""
        return round((1.0 - self(now_ns)) * self._usable)

    def __call__(self, now_ns: int) -> float:
        """In [0, 1]; ``now_ns``: time.monotonic_ns()."""
        if self._looked_ns is None:
            self._looked_ns = now_ns
        elif now_ns - self._looked_ns >= LOOK_NS:
            self._looked_ns = now_ns
            self._look()
        return self._share

    def _look(self) -> None:
        before, self._before = self._before, self._read()
        passed = self._before.all - before.all
        if passed > 0:
            busy = 1.0 - (self._before.idle - before.idle) / passed
            self._share += NEW_SHARE * (min(max(busy, 0.0), 1.0) - self._share)

    def _read(self) -> Ticks:
        try:
            lines = self._stat.read_text().splitlines()
        except OSError:
            return Ticks(0, 0)
        return ticks(lines, self._cores)


def ticks(lines: list[str], cores: set[int]) -> Ticks:
    """The sum over some cores, of the lines of ``/proc/stat``; see proc(5).

    >>> ticks(["cpu  9 9 9 9 9 9 9 9 0 0", "cpu0 1 0 1 5 1 0 0 0 0 0", "cpu1 8 0 0 2 0 0 0 0 0 0", "intr 7"], {0})
    Ticks(idle=6, all=8)
    """
    names = {f"cpu{core}" for core in cores}
    idle = passed = 0
    for line in lines:
        name, *fields = line.split()
        if name in names:
            counts = [int(field) for field in fields[:COUNTED]]
            idle += sum(counts[IDLE])
            passed += sum(counts)
    return Ticks(idle, passed)
