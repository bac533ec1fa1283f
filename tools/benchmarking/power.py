"""Power and GPU while something runs, where the machine tells: RAPL counters and ``nvidia-smi``."""

import csv
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Final, NamedTuple

import msgspec

from tools.benchmarking.figures import rounded

POWERCAP: Final = Path("/sys/class/powercap")
EVERY_MS: Final = 250  # between two looks at the GPUs
QUERY: Final = "utilization.gpu,memory.used,power.draw"


class GpuFigures(msgspec.Struct, frozen=True):
    """Mean over the GPUs of the machine and the measured time; None: they do not tell."""

    utilisation_percent: float | None
    memory_mib: float | None
    watts: float | None


class Counter(NamedTuple):
    """A processor package's energy counter."""

    joules: float
    wraps_at: float  # where it begins at 0 again


def energy(folder: Path = POWERCAP) -> dict[str, Counter]:
    """Return RAPL's counters of the processor packages; none where there are none or they may not be read."""
    counters = {}
    for zone in folder.glob("intel-rapl:*"):
        if zone.name.count(":") > 1:  # a part of a package, which counts it already
            continue
        try:
            counters[zone.name] = Counter(
                *(1e-6 * float((zone / file).read_text()) for file in ("energy_uj", "max_energy_range_uj"))
            )
        except (OSError, ValueError):  # root alone may read them on most systems
            continue
    return counters


def joules_between(before: dict[str, Counter], after: dict[str, Counter]) -> float | None:
    """Return the energy of all packages between readings less than one turn of a counter apart; None: unknown.

    >>> joules_between({"a": Counter(90.0, 100.0)}, {"a": Counter(15.0, 100.0)})
    25.0
    """
    if not before or before.keys() != after.keys():
        return None
    return sum((after[name].joules - start.joules) % start.wraps_at for name, start in before.items())


@contextmanager
def gpu_log() -> Iterator[Sequence[str]]:
    """Give the lines that ``nvidia-smi`` writes of the GPUs, which grow; none where there is no such command."""
    lines: list[str] = []
    command = shutil.which("nvidia-smi")
    if command is None:
        yield lines
        return
    arguments = [command, f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as watcher:
        assert watcher.stdout is not None
        reader = threading.Thread(target=_collect, args=(watcher.stdout, lines))
        reader.start()
        try:
            yield lines
        finally:
            watcher.terminate()
            reader.join()


def _collect(output: Iterable[str], lines: list[str]) -> None:
    for line in output:
        lines.append(line)


def summarise(lines: Sequence[str]) -> GpuFigures | None:
    """Return the mean of the log's lines; a value that a GPU does not tell is written as ``[N/A]``.

    >>> summarise(["50, 1000, 70.5", "70, 1200, [N/A]"])
    GpuFigures(utilisation_percent=60.0, memory_mib=1100.0, watts=70.5)
    """
    rows = [row for row in csv.reader(lines, skipinitialspace=True) if len(row) == len(QUERY.split(","))]
    return GpuFigures(*map(_mean, zip(*rows, strict=True))) if rows else None


def _mean(column: Sequence[str]) -> float | None:
    values = [float(text) for text in column if text.replace(".", "", 1).isdecimal()]
    return rounded(fmean(values)) if values else None
