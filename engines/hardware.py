"""What this machine has: processor, memory, GPUs."""

import csv
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
OWN_GROUPS: Final = Path("/proc/self/cgroup")

# /proc/cpuinfo's names of the instructions that the engines gain from -> the names people know them by.
INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx512_bf16": "BF16",
    "amx_bf16": "AMX-BF16",
    "amx_int8": "AMX-INT8",
    "asimd": "NEON",
    "bf16": "BF16",
}


@dataclass(frozen=True, slots=True)
class Cpu:
    """The processor, as far as the operating system tells."""

    name: str
    cores: int  # logical ones
    usable_cores: int  # those this process may run on
    instructions: tuple[str, ...]  # of INSTRUCTIONS


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU."""

    name: str
    memory_mib: int
    driver: str


def cpu(cpuinfo: Path = Path("/proc/cpuinfo")) -> Cpu:
    """The processor of this machine."""
    fields = _first_processor(cpuinfo)
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    return Cpu(
        name=fields.get("model name") or platform.processor() or platform.machine(),
        cores=os.cpu_count() or 1,
        usable_cores=usable_cores(),
        instructions=tuple(dict.fromkeys(known for flag, known in INSTRUCTIONS.items() if flag in flags)),
    )


def int8_instructions(processor: Cpu) -> str:
    """How a processor multiplies 8-bit numbers: "amx", "vnni", "avx2", "neon" or "other".

    Of these, "avx2" alone adds pairs of products in 16 bits, which overflow where weights have all of their 8 bits.
    """
    known = {"AMX-INT8": "amx", "VNNI": "vnni", "AVX-VNNI": "vnni", "AVX2": "avx2", "NEON": "neon"}
    return next((name for found, name in known.items() if found in processor.instructions), "other")


def usable_cores() -> int:
    """As many logical cores as this process may use: those it may run on, or less where a cgroup's quota is less."""
    quota = cpu_quota()
    cores = len(allowed_cores()) or os.cpu_count() or 1
    return cores if quota is None else max(1, min(cores, ceil(quota)))


def allowed_cores() -> set[int]:
    """Numbers of the logical cores that this process may run on; empty where the system does not tell (macOS)."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def cpu_quota(root: Path = CGROUP, groups: Path = OWN_GROUPS) -> float | None:
    """Cores' worth of time that the cgroups of this process, version 1 or 2, let it have; None: no limit.

    Args:
        root: where cgroups are mounted.
        groups: which of them this process is in.
    """
    quotas = []
    for folder in _own_groups(root, groups, "cpu"):
        try:
            limit, period = _words(folder / "cpu.max")
        except (OSError, ValueError):
            try:
                limit, period = *_words(folder / "cpu.cfs_quota_us"), *_words(folder / "cpu.cfs_period_us")
            except (OSError, ValueError):
                continue
        if limit.isdecimal() and period.isdecimal() and int(limit) and int(period):  # not "max", and not -1
            quotas.append(int(limit) / int(period))
    return min(quotas, default=None)


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory_bytes(root: Path = CGROUP, groups: Path = OWN_GROUPS, meminfo: Path = Path("/proc/meminfo")) -> int:
    """Memory that could be taken now: what the system and, in a container, its limit leave.

    Copies of files that the kernel keeps for quicker reading do not count as used: it drops them when it needs room.

    Args:
        root: where cgroups are mounted.
        groups: which of them this process is in.
        meminfo: of the whole machine.
    """
    try:
        rows = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):  # not Linux
        free = memory_bytes()
    for folder in _own_groups(root, groups, "memory"):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            try:
                left = int((folder / limit).read_text()) - int((folder / used).read_text())
            except (OSError, ValueError):  # no such file, or "max"
                continue
            free = min(free, left + _cached_bytes(folder))
    return max(0, free)


def _cached_bytes(folder: Path) -> int:
    """Copies of files in the memory that a cgroup uses; shared memory is none of them."""
    try:
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        # Of version 1 the figures with "total_" count the groups below, as all of version 2 do.
        prefix = "total_" if "total_inactive_file" in rows else ""
        return int(rows[f"{prefix}inactive_file"]) + int(rows[f"{prefix}active_file"])
    except (OSError, KeyError, ValueError):
        return 0


def _own_groups(root: Path, groups: Path, controller: str) -> Iterator[Path]:
    """Folders of the cgroups that this process is in, up to the mount; see cgroups(7).

    In a container the paths may be those outside it, of which nothing is mounted but the innermost group, as the root.
    """
    try:
        lines = [line.split(":", 2) for line in groups.read_text().splitlines()]
    except OSError:  # not Linux
        return
    for number, controllers, path in (line for line in lines if len(line) == 3):
        if number == "0" and not controllers:
            mount = root
        elif controller in controllers.split(","):
            mount = root / controller  # a link where several are mounted together
        else:
            continue
        inner = mount / path.strip("/")
        yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount))


def _words(file: Path) -> list[str]:
    return file.read_text().split()


def nvidia_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs that ``nvidia-smi`` lists; none where it is missing or fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    query = [command, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = csv.reader(done.stdout.splitlines(), skipinitialspace=True)
    return tuple(Gpu(row[0], int(row[1]) if row[1].isdigit() else 0, row[2]) for row in rows if len(row) == 3)


def nvidia_on_bus(devices: Path = Path("/sys/bus/pci/devices")) -> int:
    """NVIDIA GPUs that are in this machine, with or without a driver; 0 where the system does not tell."""
    found = 0
    for device in devices.glob("*"):
        try:
            vendor, kind = ((device / name).read_text().strip() for name in ("vendor", "class"))
        except OSError:
            continue
        found += vendor == "0x10de" and kind.startswith("0x03")  # display controllers; others are sound and bridges
    return found


def _first_processor(cpuinfo: Path) -> dict[str, str]:
    try:
        text = cpuinfo.read_text()
    except OSError:  # not Linux
        return {}
    lines = text.split("\n\n", 1)[0].splitlines()
    return {key.strip(): value.strip() for key, found, value in (line.partition(":") for line in lines) if found}
