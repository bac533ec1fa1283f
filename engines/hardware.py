"""What this machine has: processor, memory, GPUs."""

import csv
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

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
    """Logical cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


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
