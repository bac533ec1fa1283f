"""Whole runs over a live RTSP stream and a file: what dies outside leaves everything else alone."""

import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from engines.spec import Model
from pipeline.wire.messages import FrameMessage
from tests.integration.made_server import Server, gstreamer_works
from tests.pipeline.made_runs import PATIENCE_S, Run, check_books, make_config

ROOT = Path(__file__).parents[2]
BACK_WITHIN_S = 5.0
MAX_PAUSE_S = 1.0  # of a stream at 25 frames/s on a busy machine

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", autouse=True)
def needs_gstreamer() -> None:
    # A fixture, so that nothing is started to collect the tests.
    if not gstreamer_works():
        pytest.skip("needs GStreamer's RTSP server and its Python bindings; see rtsp_server.py")


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", frames=50)


@pytest.fixture
def server(clip: Path) -> Iterator[Server]:
    server = Server(clip)
    yield server
    server.kill()


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def run(server: Server, model: Model, clip: Path) -> Iterator[Run]:
    """The camera ``door``, whose address has a password, and the file ``hall``, as a camera would give it."""
    streams = {
        "door": server.address.replace("rtsp://", "rtsp://ada:hunter2@"),
        "hall": {"source": clip, "pace": "realtime", "loop": True},
    }
    run = Run(make_config(model, streams))
    run.wait(lambda run: min(len(run.frames("door")), len(run.frames("hall"))) >= 10)
    yield run
    run.stop.set()


def longest_pause_s(run: Run, stream: str) -> float:
    pairs = zip(run.messages, run.received_s, strict=True)
    times = [time_s for message, time_s in pairs if isinstance(message, FrameMessage) and message.stream == stream]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def ended(run: Run) -> None:
    """Ends the run and checks its books: live frames may have been stale, nothing else was lost."""
    run.stop.set()
    summary = run.end()
    check_books(run, summary)
    assert summary.streams["door"].dropped.keys() <= {"stale"}
    assert summary.streams["hall"].dropped == {}


def test_a_camera_dies_and_comes_back_and_the_other_stream_never_pauses(
    server: Server, run: Run, logs: list[EventDict]
) -> None:
    server.kill()
    run.wait(lambda run: run.health("door")[-1].state == "down")
    assert run.health("door")[1].cause in ("the source ended", "reading failed: Connection reset by peer")
    run.wait(lambda run: run.health("door")[-1].cause.startswith("Connection refused: "))
    time.sleep(3.0)  # the waits between attempts have grown by now
    seen = len(run.frames("door"))
    server.start()
    began_s = time.monotonic()
    run.wait(lambda run: len(run.frames("door")) > seen)
    assert time.monotonic() - began_s < BACK_WITHIN_S
    assert run.health("door")[-1].state == "up"
    assert longest_pause_s(run, "hall") < MAX_PAUSE_S
    ended(run)
    assert [(report.state, report.cause) for report in run.health("hall")] == [
        ("up", "320x240 h264"),
        ("ended", "the run was stopped"),
    ]
    states = [report.state for report in run.health("door")]
    assert [state for state, _ in itertools.groupby(states)] == ["up", "down", "up", "ended"]
    assert {"stream down", "stream up"} <= {line["event"] for line in logs}
    assert "hunter2" not in f"{run.messages} {logs}"


def subscriber_process(address: str) -> subprocess.Popen[str]:
    """``trunkline subscribe`` in a process of its own that has printed its first message."""
    code = "from tools.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "subscribe", address, "--json"], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("{")
    return process


def test_a_subscriber_is_killed_and_another_comes_and_nobody_else_notices(run: Run) -> None:
    first = subscriber_process(run.address)
    first.send_signal(signal.SIGSTOP)  # it does not read what is sent to it ...
    time.sleep(1.0)
    first.kill()  # ... and is gone
    first.communicate(timeout=PATIENCE_S)
    assert first.returncode == -signal.SIGKILL
    second = subscriber_process(run.address)
    seen = len(run.frames("hall"))
    run.wait(lambda run: len(run.frames("hall")) >= seen + 10)
    second.kill()
    second.communicate(timeout=PATIENCE_S)
    assert longest_pause_s(run, "hall") < MAX_PAUSE_S
    assert longest_pause_s(run, "door") < MAX_PAUSE_S
    ended(run)
    assert [frame.seq for frame in run.frames("hall")] == list(range(len(run.frames("hall"))))
    told = [report.state for report in run.health("door")]  # again to all, as somebody else subscribes
    assert [state for state, _ in itertools.groupby(told)] == ["up", "ended"]
