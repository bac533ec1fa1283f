"""What every peer does alike: count frames, warm up, measure, and print one line of JSON.

Peers run in environments of their own, so this file needs Python and nothing else. It reads Linux's /proc.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Final

WARM_UP_SHARE: Final = 0.2  # of the measured time, spent before it
WARM_UP_MIN_S: Final = 0.5  # first frames compile kernels and fill caches, however short the measurement
KIB_PER_MIB: Final = 1024


@dataclass(frozen=True, slots=True)
class PeerMeasurement:
    """What a peer did in its measured time."""

    frames: int
    seconds: float
    frames_per_s: float
    cpu_ms_per_frame: float  # of all its threads and processes
    peak_mib: float  # resident at the most, start included; the sum over its processes
    boxes_per_frame: float | None  # None: it looks for nothing


class Meter:
    """Counts frames; the first ones are the warm-up, and no figure has them in it."""

    def __init__(
        self, seconds: float, others: Sequence[int] = (), clock_s: Callable[[], float] = time.perf_counter
    ) -> None:
        """Measure for ``seconds`` after a warm-up of a fifth of that.

        Args:
            seconds: the measured time.
            others: processes that work for the frames, too.
            clock_s: wall-clock time.
        """
        self._seconds = seconds
        self._warm_up_s = max(WARM_UP_SHARE * seconds, WARM_UP_MIN_S)
        self._others = others
        self._clock_s = clock_s
        self._first_s: float | None = None
        self._began: tuple[float, float] | None = None  # wall-clock and CPU time when the warm-up was over
        self._ended: tuple[float, float] | None = None
        self._peak_mib = 0.0
        self._frames = self._boxes = 0

    def count(self, boxes: int = 0) -> bool:
        """Note one more finished frame with its boxes; False once the measured time is over."""
        now = self._clock_s()
        if self._first_s is None:
            self._first_s = now
        if self._ended is not None:
            return False
        if self._began is None:
            if now - self._first_s >= self._warm_up_s:
                self._began = now, self._cpu_s()
            return True
        self._frames += 1
        self._boxes += boxes
        if now - self._began[0] < self._seconds:
            return True
        self._ended = now, self._cpu_s()
        self._peak_mib = sum(peak_mib(process) for process in (os.getpid(), *self._others))
        return False

    def measured(self, *, looks: bool = True) -> PeerMeasurement:
        """The figures, once :meth:`count` has said False.

        Args:
            looks: whether the peer looks for anything; without that its frames have no number of boxes.

        Raises:
            RuntimeError: the measured time is not over.
        """
        if self._began is None or self._ended is None:
            raise RuntimeError("the source ended before the measured time was over")
        seconds, cpu = (end - begin for begin, end in zip(self._began, self._ended, strict=True))
        return PeerMeasurement(
            frames=self._frames,
            seconds=round(seconds, 3),
            frames_per_s=round(self._frames / seconds, 3),
            cpu_ms_per_frame=round(1e3 * cpu / self._frames, 4),
            peak_mib=round(self._peak_mib, 1),
            boxes_per_frame=round(self._boxes / self._frames, 2) if looks else None,
        )

    def _cpu_s(self) -> float:
        return time.process_time() + sum(cpu_s(process) for process in self._others)


def cpu_s(process: int) -> float:
    """CPU time of another process so far, user's and system's."""
    # The name, in brackets, may have spaces and brackets in it; user's and system's time are fields 14 and 15 of all.
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mib(process: int) -> float:
    """What a process had resident at its most."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / KIB_PER_MIB


def arguments(what: str, *, source: bool = True, model: bool = False) -> argparse.ArgumentParser:
    """The options that peers share."""
    parser = argparse.ArgumentParser(description=what)
    if source:
        parser.add_argument("--source", type=Path, required=True, help="video file")
    parser.add_argument("--seconds", type=float, default=10.0, help="measured time, after a warm-up of a fifth of it")
    if model:
        parser.add_argument("--model", type=Path, required=True, help="model folder")
    return parser


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of Python and of installed packages, by name."""
    return {"python": platform.python_version()} | {package: version(package) for package in packages}


def report(measured: PeerMeasurement, packages: Sequence[str]) -> None:
    """Print the one line that ``compare.py`` reads: the last of standard output, whatever libraries wrote before."""
    print(json.dumps({**asdict(measured), "versions": versions(packages)}), flush=True)
