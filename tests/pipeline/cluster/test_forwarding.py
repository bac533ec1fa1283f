"""An edge host's run and its end."""

import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import zmq
from structlog.testing import capture_logs

from pipeline.cluster.forwarding import run_forwarding
from pipeline.runtime.summary import Summary
from pipeline.settings.schema import Config
from tests.pipeline.made_sources import QUIET_S, HangingFile, not_a_pipe

PATIENCE_S = 30.0  # no test waits this long unless it fails
FRAMES = 20


def test_a_source_that_hangs_in_a_read_is_left_behind(
    make_clip: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stat, "S_ISFIFO", not_a_pipe)
    hanging = HangingFile(tmp_path / "pipe", make_clip(tmp_path / "clip.mkv", FRAMES, (160, 120)))
    stop, summaries = threading.Event(), list[Summary]()
    with zmq.Context() as context, context.socket(zmq.PULL) as host, capture_logs() as logs:
        port = host.bind_to_random_port("tcp://127.0.0.1")
        door = {"source": str(hanging.path), "pace": "fast", "timeout_s": 0.1, "forward": f"tcp://127.0.0.1:{port}"}
        config = msgspec.convert({"streams": [{"name": "door", **door}], "model": {"path": "none"}}, Config)
        run = threading.Thread(
            target=lambda: summaries.append(run_forwarding(config, stop, lambda address: None)), daemon=True
        )
        run.start()
        assert host.poll(round(1000 * PATIENCE_S))
        while host.poll(round(1000 * QUIET_S)):
            host.recv_multipart()
        stop.set()
        run.join(PATIENCE_S)
        assert not run.is_alive(), "the run waits for its source"
        hanging.close()
    assert summaries[0].streams["door"].in_flight == 0
    assert [line["threads"] for line in logs if "left behind" in line["event"]] == [["capture door"]]
