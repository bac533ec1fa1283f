"""Capture and whole runs against a real RTSP server: it dies, comes back and freezes, and no other stream notices."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from structlog.testing import capture_logs
from structlog.typing import EventDict

from engines.spec import Model
from pipeline.frames.types import Frame, Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from pipeline.wire.messages import FrameMessage
from tests.integration.made_crowd import Crowd
from tests.integration.made_server import Server, gstreamer_works
from tests.pipeline.made_runs import PATIENCE_S, Run, check_books, make_config

ROOT = Path(__file__).parents[2]
BACK_WITHIN_S = 5.0
MAX_PAUSE_S = 1.0  # of a stream at 25 frames/s, less what a busy machine makes everybody wait


@pytest.fixture(scope="module", autouse=True)
def needs_gstreamer() -> None:
    # A fixture, so that nothing is started to collect the tests.
    if not gstreamer_works():
        pytest.skip("needs GStreamer's RTSP server and its Python bindings; see rtsp_server.py")


pytestmark = pytest.mark.integration


class Watcher:
    """Captures one stream in a thread of its own."""

    def __init__(self, settings: StreamSettings) -> None:
        self._crowd = Crowd() if settings.pace == "realtime" else None
        self.frames: list[Frame] = []
        self.reports: list[Health] = []
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for frame in capture(self._settings, stop=self._stop, health=self.reports.append):
            self.frames.append(frame)

    def wait(self, what: Callable[["Watcher"], bool], within_s: float) -> float:
        """Seconds until ``what`` was so."""
        began_s = time.monotonic()
        while not what(self):
            assert time.monotonic() - began_s < within_s, f"not within {within_s} s; health: {self.health}"
            time.sleep(0.01)
        return time.monotonic() - began_s

    @property
    def health(self) -> list[tuple[str, str]]:
        return [(report.state, report.cause) for report in self.reports]

    def pauses_s(self) -> list[float]:
        return [(later.clock_ns - earlier.clock_ns) / 1e9 for earlier, later in itertools.pairwise(self.frames)]

    def longest_pause_s(self) -> float:
        """Of this stream, apart from what this machine makes everybody wait."""
        assert self._crowd is not None
        return self._crowd.longest_pause_s(self.frames)

    def end(self) -> None:
        self._stop.set()
        self._thread.join()
        if self._crowd is not None:
            self._crowd.close()
        assert [frame.seq for frame in self.frames] == list(range(len(self.frames)))
        assert all(earlier.time_s < later.time_s for earlier, later in itertools.pairwise(self.frames))


@pytest.fixture(scope="module")
def clip(make_clip: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("rtsp") / "clip.mp4", frames=50)


@pytest.fixture
def server(clip: Path) -> Iterator[Server]:
    server = Server(clip)
    yield server
    server.kill()


@pytest.fixture
def watch() -> Iterator[Callable[..., Watcher]]:
    watchers: list[Watcher] = []

    def start(name: str, source: str, **settings: object) -> Watcher:
        values = {"name": name, "source": source, **settings}
        watchers.append(Watcher(msgspec.convert(values, StreamSettings)))
        return watchers[-1]

    yield start
    for watcher in watchers:
        watcher.end()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frames_come_as_they_are_sent(server: Server, watch: Callable[..., Watcher], transport: str) -> None:
    door = watch("door", server.address, transport=transport)
    door.wait(lambda door: len(door.frames) >= 75, within_s=15)
    assert door.health == [("up", "320x240 h264")]
    assert door.frames[-1].picture.rgb()[90:110, :].max() > 150  # the bright square of the clip
    assert sum(door.pauses_s()[25:]) == pytest.approx(49 / 25, abs=0.7)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_frozen_server_is_noticed_by_its_silence(
    server: Server, watch: Callable[..., Watcher], clip: Path, transport: str
) -> None:
    door = watch("door", server.address, timeout_s=2.0, reconnect_max_s=0.5, transport=transport)
    hall = watch("hall", str(clip), pace="realtime", loop=True)
    door.wait(lambda door: len(door.frames) >= 10, within_s=15)
    server.freeze()
    door.wait(lambda door: ("down", "no data for 2 s") in door.health, within_s=3.0)
    # What FFmpeg held until then is not taken for a fresh picture.
    assert door.reports[1].at_ns - door.frames[-1].captured_ns > 1.5e9
    door.wait(lambda door: ("down", "no answer within 2 s") in door.health, within_s=4.0)
    server.thaw()
    door.wait(lambda door: door.reports[-1].state == "up", within_s=BACK_WITHIN_S)
    assert hall.longest_pause_s() < MAX_PAUSE_S


PASSWORD = "p@ss:w/rd?#1%"


@pytest.fixture(scope="module")
def guarded(clip: Path) -> Iterator[Server]:
    server = Server(clip, "ada", PASSWORD)
    yield server
    server.kill()


def test_a_password_may_have_any_characters(guarded: Server, watch: Callable[..., Watcher]) -> None:
    door = watch("door", guarded.address, user="ada", password=PASSWORD)
    door.wait(lambda door: len(door.frames) >= 5, within_s=15)
    assert door.health == [("up", "320x240 h264")]


@pytest.mark.parametrize(
    ("secret", "path", "said"),
    [
        ({}, "", "wants a user name and a password (401 Unauthorized): set user and password of the stream"),
        ({"user": "ada", "password": "no"}, "", "refuses the user name or the password (401 Unauthorized): set user"),
        ({"user": "ada", "password": PASSWORD}, "/no", "there is no such stream (404 Not Found): check the path"),
    ],
)
def test_what_a_camera_refuses_is_told(
    guarded: Server, watch: Callable[..., Watcher], secret: dict[str, str], path: str, said: str
) -> None:
    door = watch("door", guarded.address + path, **secret)
    door.wait(lambda door: bool(door.reports), within_s=15)
    assert door.health[0][0] == "down"
    assert door.health[0][1].startswith(said)


# Whole runs


@pytest.fixture
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


@pytest.fixture
def run(server: Server, model: Model, clip: Path, logs: list[EventDict]) -> Iterator[Run]:
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


def end(run: Run) -> None:
    """Ends the run and checks its books: live frames may have been stale, nothing else was lost."""
    summary = run.end_now()
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
    end(run)
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
    run.flows("hall", 10)
    second.kill()
    second.communicate(timeout=PATIENCE_S)
    assert longest_pause_s(run, "hall") < MAX_PAUSE_S
    assert longest_pause_s(run, "door") < MAX_PAUSE_S
    end(run)
    assert [frame.seq for frame in run.frames("hall")] == list(range(len(run.frames("hall"))))
    told = [report.state for report in run.health("door")]  # again to all, as somebody else subscribes
    assert [state for state, _ in itertools.groupby(told)] == ["up", "ended"]
