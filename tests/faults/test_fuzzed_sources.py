"""Sources that send rubbish, by a seed: pictures or a refusal of one line, never a crash, a hang or much memory."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.faults.fuzz_sources import COUNTS
from tests.faults.made_mutations import TIMES

ROOT: Final = Path(__file__).parents[2]
LONGEST_S: Final = 5.0  # for any one source, of which a good one takes 1 s
MOST_MB: Final = 600.0  # of a process that reads eight at a time
PATIENCE_S: Final = 120.0 * TIMES


@pytest.mark.integration
@pytest.mark.timeout(PATIENCE_S)
@pytest.mark.parametrize("kind", COUNTS)
def test_rubbish_is_read_or_refused(kind: str) -> None:
    done = subprocess.run(
        (sys.executable, "-m", "tests.faults.fuzz_sources", kind),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "pipeline" / "public")))},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr[-2000:]}"
    found = json.loads(done.stdout)
    assert found["read"] + found["refused"] == COUNTS[kind] * TIMES
    assert found["frames"] > 0 and found["longest_s"] < LONGEST_S and found["memory_mb"] < MOST_MB
    if kind != "rtp":  # damage of packets costs pictures alone
        assert found["refused"] > 0
