"""How busy the processor is."""

import os
from pathlib import Path

import pytest

from engines.cpu_load import LOOK_NS, CpuLoad
from engines.hardware import usable_cores

CORES = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pytestmark = pytest.mark.skipif(not CORES, reason="this system does not tell which cores a process may run on")


def write(stat: Path, busy: int, idle: int, elsewhere: int = 0) -> None:
    """What each usable core has passed since the start of the machine, and one that may not be used."""
    lines = ["cpu  1 2 3 4 5 6 7 8 9 10"]
    lines += [f"cpu{core} {busy} 0 0 {idle} 0 0 0 0 {busy} 0" for core in CORES]  # guests' time is in the first field
    lines += [f"cpu{max(CORES) + 1} {elsewhere} 0 0 0 0 0 0 0 0 0", "intr 5 0 0"]
    stat.write_text("\n".join(lines))


def test_it_is_what_the_usable_cores_did_since_the_last_look_and_soon_forgets(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    write(stat, 1000, 0)
    load = CpuLoad(stat)
    assert load(0) == 0.0, "nobody knows yet"
    shares = []
    for look in range(1, 9):
        write(stat, 1000 + 20 * look, 5 * look, elsewhere=100 * look)
        shares.append(load(look * LOOK_NS))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(0.8, abs=0.01)
    assert load.idle_cores(8 * LOOK_NS) == round(0.2 * usable_cores())


def test_it_does_not_look_at_every_call(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    write(stat, 0, 0)
    load = CpuLoad(stat)
    load(0)
    write(stat, 50, 50)
    assert load(LOOK_NS - 1) == 0.0
    assert load(LOOK_NS) == 0.25


def test_a_disk_that_works_keeps_no_core_busy(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    stat.write_text("\n".join(f"cpu{core} 0 0 0 0 0 0 0 0 0 0" for core in CORES))
    load = CpuLoad(stat)
    load(0)
    stat.write_text("\n".join(f"cpu{core} 0 0 0 50 50 0 0 0 0 0" for core in CORES))
    assert load(LOOK_NS) == 0.0


def test_where_the_system_does_not_tell_nobody_is_busy(tmp_path: Path) -> None:
    load = CpuLoad(tmp_path / "stat")
    assert [load(look * LOOK_NS) for look in range(3)] == [0.0] * 3


def test_counters_that_stand_still_or_go_back_tell_nothing(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    write(stat, 100, 100)
    load = CpuLoad(stat)
    load(0)
    for look, busy in ((1, 100), (2, 50)):
        write(stat, busy, 100)
        assert load(look * LOOK_NS) == 0.0
