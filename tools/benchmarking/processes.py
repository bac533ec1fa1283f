"""Child processes, and what a process and all that it started use, from Linux's ``/proc``.

Peers use it in environments of their own: it needs Python and nothing else.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

from engines.errors import ConfigError

PROC: Final = Path("/proc")
END_S: Final = 5.0  # to end after SIGTERM
# Fields of /proc/PID/stat after the name in brackets, counted from 0; proc(5) counts from 1, with the name as 2.
PARENT, DEAD_USER, DEAD_SYSTEM = 1, 13, 14


@contextmanager
def child(target: Callable[..., None], *arguments: Any, leave_s: float = 0.0) -> Iterator[BaseProcess]:
    """Run ``target(*arguments)`` in a fresh interpreter, which is ended with the ``with`` and with this process.

    Ctrl-C is for whoever started it. ``leave_s`` is how long it gets to end by itself.
    """
    process = multiprocessing.get_context("spawn").Process(target=_begin, args=(target, *arguments))
    process.start()
    try:
        yield process
    finally:
        process.join(leave_s)
        process.terminate()
        process.join(END_S)
        process.kill()
        process.join()


def _begin(target: Callable[..., None], *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    target(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@dataclass(frozen=True, slots=True)
class Usage:
    """Of a process and its descendants together."""

    processes: int
    cpu_s: float  # so far, of those that ended meanwhile, too
    rss_bytes: int  # what several processes share counts for each
    peak_bytes: int  # the sum of what each had at its most
    own_bytes: int  # without what several processes may share ...
    shared_bytes: int  # ... of which this is what the process has that has most of it
    threads: int
    descriptors: int


def usage(pid: int, proc: Path = PROC) -> Usage:
    """Return what process ``pid`` and its descendants use.

    Raises:
        ConfigError: this system has no ``/proc``.
    """
    if not (proc / "self").exists():
        raise ConfigError(f"a whole pipeline can be measured on Linux only: {proc} is not there")
    stats = _family(pid, proc)
    family = list(stats)
    dead_ticks = sum(int(stats[one][DEAD_USER]) + int(stats[one][DEAD_SYSTEM]) for one in family)
    memory = [_memory(proc / str(one)) for one in family]
    return Usage(
        processes=len(family),
        cpu_s=sum(map(_cpu_s, family)) + dead_ticks / os.sysconf("SC_CLK_TCK"),
        rss_bytes=sum(one.get("VmRSS", 0) for one in memory),
        peak_bytes=sum(one.get("VmHWM", 0) for one in memory),
        own_bytes=sum(one.get("RssAnon", 0) for one in memory),
        shared_bytes=max((one.get("RssFile", 0) + one.get("RssShmem", 0) for one in memory), default=0),
        threads=sum(_count(proc / str(one) / "task") for one in family),
        descriptors=sum(_count(proc / str(one) / "fd") for one in family),
    )


def descendants(pid: int) -> dict[int, str]:
    """Return the processes that process ``pid`` started, and those that they started, and the command of each."""
    others = [one for one in _family(pid, PROC) if one != pid]
    return {one: _read(PROC / str(one) / "cmdline").replace("\0", " ").strip() for one in others}


def descriptors(pid: int) -> int:
    """Return how many files a process has open."""
    return _count(PROC / str(pid) / "fd")


def _family(pid: int, proc: Path) -> dict[int, list[str]]:
    """A process and its descendants, with the fields of ``/proc/PID/stat`` of each."""
    stats = {int(folder.name): _stat(folder) for folder in proc.iterdir() if folder.name.isdecimal()}
    family = [pid] if stats.get(pid) else []
    for one in family:  # grows meanwhile
        family += [number for number, fields in stats.items() if fields and int(fields[PARENT]) == one]
    return {one: stats[one] for one in family}


def _count(folder: Path) -> int:
    try:
        return len(os.listdir(folder))
    except OSError:  # the process ended meanwhile
        return 0


def _cpu_s(pid: int) -> float:
    # The kernel's number of another process's clock, as clock_getcpuclockid(3) makes it; /proc tells in steps of 10 ms.
    try:
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:  # it ended meanwhile
        return 0.0


def _stat(folder: Path) -> list[str]:
    return _read(folder / "stat").rpartition(")")[2].split()  # the name may have spaces and brackets in it


def _memory(folder: Path) -> dict[str, int]:
    """Bytes, by the names of proc(5)."""
    lines = (line.split() for line in _read(folder / "status").splitlines())
    return {fields[0].rstrip(":"): 1024 * int(fields[1]) for fields in lines if fields[-1] == "kB"}


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:  # the process ended meanwhile
        return ""
