"""Commands that start others, with a session of their own as torchrun's workers have, are ended with them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sessions import ended_with_all_it_started
from tests.waiting import until

STARTS = """
import subprocess, sys, time
command = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
open(sys.argv[1], "w").write(str(child.pid))
time.sleep(float(sys.argv[2]))
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.integration
@pytest.mark.parametrize("seconds", ["0", "600"])
def test_what_a_command_started_ends_with_it_in_time_or_not(tmp_path: Path, seconds: str) -> None:
    command = [sys.executable, "-c", STARTS, str(tmp_path / "pid"), seconds]
    if seconds == "0":
        assert ended_with_all_it_started(command, 30.0).returncode == 0
    else:
        with pytest.raises(subprocess.TimeoutExpired):
            ended_with_all_it_started(command, 3.0)
    child = int((tmp_path / "pid").read_text())
    assert child != os.getpid()
    until(lambda: not runs(child))
