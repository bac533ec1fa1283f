"""What a container's limits leave: cores and memory, of cgroups of both versions."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines import hardware
from engines.hardware import cpu_quota, free_memory_bytes, usable_cores

MIB = 2**20


def made(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """Where made cgroups are mounted, and the file that says which of them this process is in."""
    root, groups = folder / "cgroup", folder / "own"
    root.mkdir()
    groups.write_text(own)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root, groups


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        pytest.param("0::/\n", {"cpu.max": "150000 100000"}, 1.5, id="version 2, in a container"),
        pytest.param("0::/\n", {"cpu.max": "max 100000"}, None, id="version 2, no limit"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 0.5, id="the one above"),
        pytest.param("0::/a/b\n", {"a/b/cpu.max": "1000 1000", "a/cpu.max": "9000 1000"}, 1.0, id="the least counts"),
        pytest.param("0::/outside/x\n", {"cpu.max": "200000 100000"}, 2.0, id="a path of outside the container"),
        pytest.param(
            "4:cpu,cpuacct:/a\n1:name=systemd:/\n",
            {"cpu/a/cpu.cfs_quota_us": "250000", "cpu/a/cpu.cfs_period_us": "100000"},
            2.5,
            id="version 1",
        ),
        pytest.param(
            "4:cpu:/docker/x\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None, id="-1"
        ),
        pytest.param("4:memory:/a\n", {"cpu/a/cpu.cfs_quota_us": "1"}, None, id="another controller's"),
        pytest.param("0::/\n", {"cpu.max": ""}, None, id="empty"),
        pytest.param("", {}, None, id="no cgroups"),
    ],
)
def test_cpu_quota(tmp_path: Path, own: str, files: dict[str, str], quota: float | None) -> None:
    assert cpu_quota(*made(tmp_path, own, files)) == quota


def test_without_cgroups_there_is_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path / "none", tmp_path / "none") is None


@given(quota=st.none() | st.floats(0.01, 1000.0), cores=st.integers(1, 256))
def test_usable_cores_are_those_of_the_quota_and_of_the_affinity(quota: float | None, cores: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hardware, "cpu_quota", lambda: quota)
        patched.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        usable = usable_cores()
    assert 1 <= usable <= cores
    if quota is not None and usable < cores:
        assert usable - 1 < quota <= usable


V1, V2 = "8:memory:/a\n", "0::/a\n"


@pytest.mark.parametrize(
    ("own", "files", "free"),
    [
        pytest.param(V2, {"a/memory.max": "max", "a/memory.current": "5"}, 1000, id="version 2, no limit"),
        pytest.param(V2, {"a/memory.max": f"{500 * MIB}", "a/memory.current": f"{100 * MIB}"}, 400, id="a limit"),
        pytest.param(
            V2,
            {
                "a/memory.max": f"{500 * MIB}",
                "a/memory.current": f"{499 * MIB}",
                "a/memory.stat": f"anon {99 * MIB}\nfile {400 * MIB}\nshmem {100 * MIB}\n"
                f"inactive_file {200 * MIB}\nactive_file {100 * MIB}",
            },
            301,
            id="page cache is not used, shared memory is",
        ),
        pytest.param(
            V1,
            {
                "memory/a/memory.limit_in_bytes": f"{500 * MIB}",
                "memory/a/memory.usage_in_bytes": f"{450 * MIB}",
                "memory/a/memory.stat": f"inactive_file 0\nactive_file 0\n"
                f"total_inactive_file {30 * MIB}\ntotal_active_file {20 * MIB}",
            },
            100,
            id="version 1",
        ),
        pytest.param(V2, {"memory.max": "10", "memory.current": "20"}, 0, id="more than there is"),
    ],
)
def test_free_memory(tmp_path: Path, own: str, files: dict[str, str], free: int) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1 kB\nMemFree: 1 kB\nMemAvailable: {1000 * 1024} kB\n")
    assert free_memory_bytes(*made(tmp_path, own, files), meminfo) == free * MIB


def test_free_memory_of_this_machine() -> None:
    assert 0 < free_memory_bytes() <= hardware.memory_bytes()
