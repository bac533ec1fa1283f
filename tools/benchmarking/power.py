"""Power and GPU while something runs, where the machine tells: RAPL counters and ``nvidia-smi``."""

import csv
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from tools.benchmarking.figures import rounded

POWERCAP: Final = Path("/sys/class/powercap")
MICRO: Final = 1e-6
EVERY_MS: Final = 250  # between two looks at the GPUs
QUERY: Final = "utilization.gpu,memory.used,power.draw"


class GpuFigures(msgspec.Struct, frozen=True):
    """Mean over the GPUs of the machine and the measured time; None: they do not tell."""

    utilisation_percent: float | None
    memory_mib: float | None
    watts: float | None


@dataclass(frozen=True, slots=True)
class Counter:
    """A processor package's energy counter."""

    joules: float
    wraps_at: float  # where it begins at 0 again


def energy(folder: Path = POWERCAP) -> dict[str, Counter]:
    """RAPL's energy counters of the processor packages; none where there are none or they may not be read."""
    counters = {}
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") > 1:  # a part of a package, which counts it already
            continue
        try:
            joules, wraps_at = (
                float((zone / file).read_text()) * MICRO for file in ("energy_uj", "max_energy_range_uj")
            )
        except (OSError, ValueError):  # root alone may read them on most systems
            continue
        counters[zone.name] = Counter(joules, wraps_at)
    return counters


def joules_between(before: dict[str, Counter], after: dict[str, Counter]) -> float | None:
    """Energy of all packages from one reading to the next, less than one turn of a counter later; None: unknown.

    >>> joules_between({"a": Counter(90.0, 100.0)}, {"a": Counter(15.0, 100.0)})
    25.0
    """
    if not before or before.keys() != after.keys():
        return None
    return sum((after[name].joules - start.joules) % start.wraps_at for name, start in before.items())


class GpuLog:
    """What ``nvidia-smi`` writes while it runs; nothing where there is none."""

    def __init__(self, file: IO[str] | None) -> None:
        self._file = file

    def mark(self) -> int:
        """A place in the log, for :meth:`since`."""
        return 0 if self._file is None else self._file.seek(0, 2)

    def since(self, mark: int) -> GpuFigures | None:
        """The mean of what was written since a mark; None: there is no GPU, or nothing was written."""
        if self._file is None:
            return None
        self._file.seek(mark)
        return summarise(self._file.read().splitlines())


@contextmanager
def gpu_log() -> Iterator[GpuLog]:
    """Have ``nvidia-smi``, if there is one, write down what the GPUs do."""
    command = shutil.which("nvidia-smi")
    if command is None:
        yield GpuLog(None)
        return
    with tempfile.TemporaryFile("w+") as file:
        arguments = [command, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"]
        watcher = subprocess.Popen(arguments, stdout=file, stderr=subprocess.DEVNULL)
        try:
            # A description of its own: the writer's place in the file is not the reader's.
            with open(f"/proc/self/fd/{file.fileno()}") as reader:
                yield GpuLog(reader)
        finally:
            watcher.terminate()
            watcher.wait()


def summarise(lines: Sequence[str]) -> GpuFigures | None:
    """The mean of the log's lines; a value that a GPU does not tell is written as ``[N/A]``.

    >>> summarise(["50, 1000, 70.5", "70, 1200, [N/A]"])
    GpuFigures(utilisation_percent=60.0, memory_mib=1100.0, watts=70.5)
    """
    rows = [row for row in csv.reader(lines, skipinitialspace=True) if len(row) == len(QUERY.split(","))]
    if not rows:
        return None
    return GpuFigures(*(_mean(column) for column in zip(*rows, strict=True)))


def _mean(column: Sequence[str]) -> float | None:
    values = [float(text) for text in column if text.replace(".", "", 1).isdecimal()]
    return rounded(statistics.fmean(values)) if values else None
