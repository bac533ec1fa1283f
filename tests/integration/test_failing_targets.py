"""Targets that fail at random cost frames nothing, and every book holds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.pipeline.sinks.mqtt.made_broker import BROKER

ROOT = Path(__file__).parents[2]
SECONDS = float(os.environ.get("TRUNKLINE_FAILING_S", "6"))

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform != "linux", reason="the disk is made to fail by RLIMIT_FSIZE"),
    pytest.mark.skipif(BROKER is None, reason="Mosquitto is not installed (Debian: mosquitto)"),
]


@pytest.mark.timeout(SECONDS + 240)
def test_frames_go_on_while_broker_webhook_and_disk_fail_at_random() -> None:
    """TRUNKLINE_FAILING_S=600 lets it go on for ten minutes; the books are checked where the figures are made."""
    command = [sys.executable, "-m", "tests.integration.failing_targets", str(SECONDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS + 200)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["failures"]["disk"] and found["failures"]["webhook"] and found["events"]
    assert found["failures"]["broker cut"] + found["failures"]["broker killed"]
    assert {cause for dropped in found["dropped"].values() for cause in dropped} <= {"stale"}
    assert "full" not in found["sinks"]["publish"]["lost"]
    well, failing = found["latency_ms"]["all well"], found["latency_ms"]["failing"]
    assert failing["p50"] < 3 * well["p50"] + 50.0, found["latency_ms"]
