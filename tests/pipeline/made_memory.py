"""Shared memory as the system sees it."""

from pathlib import Path


def named_memory(pid: int) -> list[str]:
    """The files of shared memory that a process maps and that have a name, so that they stay when it is killed."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    paths = (line.split(maxsplit=5)[5] for line in lines if "/dev/shm/" in line)
    return [path for path in paths if not path.endswith("(deleted)")]
