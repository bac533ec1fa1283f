"""What is read from the system: processes, energy, GPUs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engines.errors import ConfigError
from tools.benchmarking.power import Counter, GpuFigures, energy, gpu_log, joules_between, summarise
from tools.benchmarking.processes import descendants, usage

linux = pytest.mark.skipif(not Path("/proc/self").exists(), reason="this system has no /proc")
BUSY = "import time\nwhile time.process_time() < 0.1: pass\nprint(flush=True)\ninput()"
PARENT = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])"


@linux
def test_a_process_is_counted_with_what_it_started() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        used, below = usage(process.pid), descendants(process.pid)
        process.stdin.close()
    assert used.processes == 2
    (command,) = below.values()
    assert command.startswith(f"{sys.executable} -c import time")
    assert used.threads == 2 and used.descriptors >= 6
    assert 2**20 < used.own_bytes < used.rss_bytes and 2**20 < used.shared_bytes < used.rss_bytes
    assert 0.1 <= used.cpu_s < 5.0
    assert 2**20 < used.rss_bytes <= used.peak_bytes


@linux
def test_what_its_children_used_before_they_ended_counts() -> None:
    before = usage(os.getpid()).cpu_s
    subprocess.run([sys.executable, "-c", BUSY], input=b"\n", stdout=subprocess.DEVNULL, check=True)
    assert usage(os.getpid()).cpu_s - before >= 0.09  # of children in steps of 10 ms


@linux
def test_a_process_that_is_gone_uses_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    assert usage(process.pid).processes == usage(process.pid).rss_bytes == 0


def test_without_proc_nothing_is_made_up(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="on Linux only"):
        usage(1, tmp_path)


def write_zone(folder: Path, name: str, energy_uj: str) -> None:
    (folder / name).mkdir()
    (folder / name / "energy_uj").write_text(energy_uj)
    (folder / name / "max_energy_range_uj").write_text("100000000\n")


def test_energy_is_that_of_packages_without_their_parts(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "5000000\n")
    write_zone(tmp_path, "intel-rapl:0:0", "3000000\n")
    write_zone(tmp_path, "intel-rapl:1", "not a number\n")
    assert energy(tmp_path) == {"intel-rapl:0": Counter(5.0, 100.0)}


def test_a_machine_without_counters(tmp_path: Path) -> None:
    assert energy(tmp_path / "nowhere") == {}
    assert joules_between({}, {}) is None


def test_a_counter_that_began_again_at_zero() -> None:
    assert joules_between({"a": Counter(99.0, 100.0)}, {"a": Counter(2.0, 100.0)}) == pytest.approx(3.0)


def test_a_counter_that_vanished_is_no_measurement() -> None:
    assert joules_between({"a": Counter(1.0, 9.0), "b": Counter(1.0, 9.0)}, {"a": Counter(2.0, 9.0)}) is None


@pytest.mark.parametrize(
    ("lines", "figures"),
    [
        pytest.param([], None, id="nothing was written"),
        pytest.param(
            ["10, 100, 50.5", "30, 100, 49.5", "4"], GpuFigures(20.0, 100.0, 50.0), id="half a line at the end"
        ),
        pytest.param(["10, 100, [N/A]"], GpuFigures(10.0, 100.0, None), id="no power"),
    ],
)
def test_what_a_gpu_wrote(lines: list[str], figures: GpuFigures | None) -> None:
    assert summarise(lines) == figures


def test_nvidia_smi_is_read_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "nvidia-smi"
    command.write_text("#!/bin/sh\necho '1, 1, 1'\nwhile :; do echo '50, 2000, 120.5'; sleep 0.01; done\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with gpu_log() as lines:
        while len(lines) < 2:
            pass
        assert summarise(lines[1:2]) == GpuFigures(50.0, 2000.0, 120.5)


def test_without_nvidia_smi_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with gpu_log() as lines:
        assert summarise(lines) is None
