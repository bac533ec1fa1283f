"""What a process and all that it started use, from Linux's ``/proc``."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engines.errors import ConfigError

PROC: Final = Path("/proc")
KIB: Final = 1024
# Fields of /proc/PID/stat after the name in brackets, counted from 0; proc(5) counts from 1, with the name as 2.
PARENT, DEAD_USER, DEAD_SYSTEM = 1, 13, 14


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and its descendants together."""

    processes: int
    cpu_s: float  # so far, of those that ended meanwhile, too
    rss_bytes: int  # what several processes share counts for each
    peak_bytes: int  # the sum of what each had at its most


def usage(pid: int, proc: Path = PROC) -> Usage:
    """What process ``pid`` and its descendants use.

    Raises:
        ConfigError: this system has no ``/proc``.
    """
    if not (proc / "self").exists():
        raise ConfigError(f"a whole pipeline can be measured on Linux only: {proc} is not there")
    parents: dict[int, int] = {}
    dead_ticks: dict[int, int] = {}  # of children that ended
    for folder in proc.iterdir():
        if folder.name.isdecimal() and (fields := _stat(folder)) is not None:
            parents[int(folder.name)] = int(fields[PARENT])
            dead_ticks[int(folder.name)] = int(fields[DEAD_USER]) + int(fields[DEAD_SYSTEM])
    family = _family(pid, parents)
    memory = [_memory(proc / str(one)) for one in family]
    return Usage(
        processes=len(family),
        cpu_s=sum(_cpu_s(one) + dead_ticks[one] / os.sysconf("SC_CLK_TCK") for one in family),
        rss_bytes=sum(rss for rss, _ in memory),
        peak_bytes=sum(peak for _, peak in memory),
    )


def _family(pid: int, parents: dict[int, int]) -> list[int]:
    """A process and its descendants, those of them that are there."""
    found = [pid] if pid in parents else []
    for one in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == one]
    return found


def _cpu_s(pid: int) -> float:
    # The kernel's number of another process's clock, as clock_getcpuclockid(3) makes it; /proc tells in steps of 10 ms.
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # it ended meanwhile
        return 0.0


def _stat(folder: Path) -> list[str] | None:
    try:
        text = (folder / "stat").read_text()
    except OSError:  # it ended meanwhile
        return None
    return text.rpartition(")")[2].split()  # the name may have spaces and brackets in it


def _memory(folder: Path) -> tuple[int, int]:
    """Resident bytes now and at the most."""
    try:
        lines = (folder / "status").read_text().splitlines()
    except OSError:
        return 0, 0
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    rss, peak = (int(fields[name][0]) * KIB if name in fields else 0 for name in ("VmRSS", "VmHWM"))
    return rss, peak
