"""``trunkline run`` and signals."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage, HealthMessage
from tests.pipeline.made_runs import PATIENCE_S
from tests.pipeline.made_sources import QUIET_S, HangingFile
from tools.run import _stop

ROOT = Path(__file__).parents[2]
ENDS_IN_S = 15.0  # of a run that is stopped, besides the longest timeout_s of its streams: see ARCHITECTURE.md


def test_the_first_signal_lets_frames_finish_and_the_second_does_not() -> None:
    stop = threading.Event()
    _stop(stop)
    assert stop.is_set()
    with pytest.raises(KeyboardInterrupt):
        _stop(stop)


class Process:
    """``trunkline run`` in a process of its own, at work."""

    def __init__(self, config: Path, *arguments: str) -> None:
        command = [sys.executable, "-c", "from tools.main import main; main()", "run", str(config), *arguments]
        self._process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"TERM": ""}
        )
        assert self._process.stderr is not None
        self.address = ""
        for line in self._process.stderr:
            if line.startswith("publishing on "):
                self.address = line.split()[-1]
                break

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        """Exit status, stdout, and what came on stderr after the address."""
        try:
            out, err = self._process.communicate(timeout=PATIENCE_S)
        finally:
            self._process.kill()
        return self._process.returncode, out, err


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_cleanly_with_its_books(
    write_config: Callable[..., Path], number: int, tmp_path: Path
) -> None:
    summary = tmp_path / "summary.json"
    config = write_config(stream=("loop = true", 'pace = "realtime"'))
    process = Process(config, "--json", "--summary", str(summary), "--wait-for-subscriber", "60")
    messages = []
    with Subscriber(process.address, timeout_s=PATIENCE_S) as subscriber:
        for message in subscriber:
            messages.append(message)
            if isinstance(message, FrameMessage) and message.seq == 5:
                process.signal(number)
            if isinstance(message, HealthMessage) and message.state == "ended":
                break
    status, out, err = process.end()
    assert status == 0, err
    door = json.loads(out)["streams"]["door"]
    assert door["captured"] == door["published"] + sum(door["dropped"].values())
    assert json.loads(summary.read_text()) == json.loads(out)
    assert "Traceback" not in err
    last = messages[-1]
    assert isinstance(last, HealthMessage)
    assert (last.captured, last.published, last.dropped) == (door["captured"], door["published"], door["dropped"])
    assert sum(isinstance(message, FrameMessage) for message in messages) == door["published"]


@pytest.mark.integration
@pytest.mark.parametrize("links", ["queue", "zmq"])
def test_a_signal_ends_a_run_whose_source_hangs_in_a_read(
    write_config: Callable[..., Path],
    make_clip: Callable[..., Path],
    tmp_path: Path,
    links: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging = HangingFile(tmp_path / "pipe", make_clip(tmp_path / "clip.mkv", frames=20, size=(160, 120)))
    (tmp_path / "sitecustomize.py").write_text("import stat\nstat.S_ISFIFO = lambda mode: False\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    config = write_config(source=hanging.path, stream=("timeout_s = 0.5", 'pace = "fast"'))
    config.write_text(f'links = "{links}"\n{config.read_text()}')
    process = Process(config, "--json", "--wait-for-subscriber", "60")
    published = 0
    with Subscriber(process.address) as subscriber:
        while (message := subscriber.receive(QUIET_S if published else PATIENCE_S)) is not None:
            published += isinstance(message, FrameMessage)
    process.signal(signal.SIGTERM)
    began = time.monotonic()
    status, out, err = process.end()
    hanging.close()
    assert time.monotonic() - began < ENDS_IN_S + 0.5
    assert (status, "Traceback" in err) == (0, False), err
    assert "sources did not end and are left behind" in err
    door = json.loads(out)["streams"]["door"]
    assert door["captured"] == door["published"] + sum(door["dropped"].values())
    assert door["published"] == published > 0
    assert json.loads(out)["stages_ms"]["total"]["p50"] > 0


@pytest.mark.integration
def test_a_second_ctrl_c_does_not_wait_for_a_source_that_hangs(write_config: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = Process(write_config(source=f"rtsp://127.0.0.1:{port}/live", stream=("timeout_s = 50.0",)))
        connection, _ = silent.accept()
        process.signal(signal.SIGINT)
        time.sleep(1.0)  # two signals at once are one
        began = time.monotonic()
        process.signal(signal.SIGINT)
        status, out, err = process.end()
        assert time.monotonic() - began < 20
        connection.close()
    assert (status, out) == (130, "")
    assert "Traceback" not in err
