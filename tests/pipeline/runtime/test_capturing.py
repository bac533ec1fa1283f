"""A stream whose capture crashes: it is down alone, its books are true, and it is tried again."""

import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs
from structlog.typing import EventDict

from pipeline.frames.counters import FrameCounters
from pipeline.frames.types import Frame, Health
from pipeline.runtime.capturing import Tell, keep_capturing
from pipeline.runtime.link import LinkClosed
from pipeline.runtime.supervision import MAX_CRASHES
from pipeline.settings.schema import StreamSettings
from tests.pipeline.made_frames import make_frame

SECRET = "rtsp://ada:s3 cret@cam/live"


class MadeError(Exception):
    """Raised on purpose."""


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[EventDict]]:
    with capture_logs() as lines:
        yield lines


class Stream:
    """A stream whose captures do in turn what is said: give so many frames, then raise or end."""

    def __init__(self, *lives: tuple[int, BaseException | None], source: str = SECRET, **settings: object) -> None:
        values = {"name": "door", "source": source, "reconnect_min_s": 0.001, "reconnect_max_s": 0.002} | settings
        self.settings = msgspec.convert(values, StreamSettings)
        self.counters = FrameCounters()
        self.reports: list[tuple[str, str]] = []
        self.admitted: list[int] = []
        self.stop = threading.Event()
        self._lives = list(lives)

    def frames(self, tell: Tell) -> Iterator[Frame]:
        count, error = self._lives.pop(0)
        seen = self.counters.of("door").captured
        for seq in range(seen, seen + count):
            if seq == seen:
                tell(Health("door", "up", "4x4 made", 0))
            yield make_frame("door", seq)
        if not self._lives:
            self.stop.set()
        if error is not None:
            raise error

    def admit(self, frame: Frame) -> None:
        self.counters.captured("door")
        self.admitted.append(frame.seq)
        self.counters.published("door")

    def keep(self, admit: Callable[[Frame], None] | None = None) -> None:
        def dropped(frame: Frame, cause: str) -> None:
            self.counters.dropped(frame.stream, cause)

        def health(report: Health) -> None:
            self.reports.append((report.state, report.cause))

        keep_capturing(self.settings, self.frames, admit or self.admit, dropped, health, self.stop)


def test_a_crash_is_told_and_logged_and_the_capture_goes_on(logs: list[EventDict]) -> None:
    stream = Stream((3, MadeError(f"no frame from {SECRET}")), (2, None))
    stream.keep()
    assert stream.admitted == [0, 1, 2, 3, 4]
    cause = "capture crashed: MadeError: no frame from rtsp://***@cam/live"
    assert stream.reports == [("up", "4x4 made"), ("down", cause), ("up", "4x4 made")]
    (line,) = logs
    assert (line["event"], line["stream"], line["frames_lost"]) == ("capture crashed", "door", 0)
    assert "test_capturing.py" in line["exception"] and "MadeError" in line["exception"]
    assert "cret" not in str(line) + str(stream.reports)


def test_the_same_crash_is_told_once_until_the_stream_is_up_again() -> None:
    same, other = MadeError("same"), MadeError("other")
    stream = Stream(*[(0, same)] * 4, (0, other), (1, same), (0, same), (0, None))
    stream.keep()
    told = [cause.rpartition(" ")[2] if state == "down" else state for state, cause in stream.reports]
    assert told == ["same", "other", "up", "same"]


def test_a_live_stream_is_tried_for_ever_and_a_file_that_keeps_crashing_ends_alone(logs: list[EventDict]) -> None:
    many = 4 * MAX_CRASHES
    live, file = (Stream(*[(0, MadeError("again"))] * many, source=source) for source in (SECRET, "clip.mp4"))
    live.keep()
    file.keep()
    assert len(logs) == many + MAX_CRASHES + 1
    assert [state for state, _ in live.reports] == ["down"]
    assert [state for state, _ in file.reports] == ["down", "ended"]
    assert file.reports[-1][1] == "more than 5 times in a minute: capture crashed: MadeError: again"


def test_what_admits_frames_may_fail_and_the_frame_is_counted() -> None:
    stream = Stream((3, None), (2, None))

    def admit(frame: Frame) -> None:
        stream.counters.captured("door")
        if frame.seq == 1:
            raise MadeError("no room")
        stream.counters.published("door")

    stream.keep(admit)
    account = stream.counters.of("door")
    assert (account.captured, account.published, account.dropped) == (4, 3, {"crash": 1})


def test_a_closed_link_ends_the_capture(logs: list[EventDict]) -> None:
    stream = Stream((3, None))

    def admit(frame: Frame) -> None:
        stream.counters.captured("door")
        raise LinkClosed

    stream.keep(admit)
    assert stream.counters.of("door").dropped == {"shutdown": 1}
    assert not logs


def test_stop_interrupts_the_pause_and_a_stopped_stream_says_nothing() -> None:
    stream = Stream((0, MadeError("first")), (0, MadeError("second")), reconnect_min_s=600.0, reconnect_max_s=600.0)
    threading.Timer(0.1, stream.stop.set).start()
    began_s = time.monotonic()
    stream.keep()
    assert time.monotonic() - began_s < 60.0
    assert len(stream.reports) == 1


def test_pauses_double_with_jitter_and_begin_again_after_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    crash = MadeError("again")
    stream = Stream(*[(0, crash)] * 5, (1, crash), (0, None), reconnect_min_s=1.0, reconnect_max_s=8.0)
    pauses: list[float] = []
    monkeypatch.setattr(stream.stop, "wait", pauses.append)
    stream.keep()
    limits = [1.0, 2.0, 4.0, 8.0, 8.0, 1.0]
    assert len(pauses) == len(limits)
    assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))
    assert len(set(pauses)) == len(pauses)


@given(lives=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=8))
def test_books_are_true_whatever_crashes(lives: list[tuple[int, bool]]) -> None:
    stream = Stream(*((count, MadeError("made") if crashes else None) for count, crashes in lives))
    stream.keep()
    account = stream.counters.of("door")
    assert account.captured == account.published + sum(account.dropped.values())
    assert stream.admitted == list(range(account.captured))
