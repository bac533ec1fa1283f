"""Nothing is told of a stream after its last word, and no frame of it is counted, whatever its thread still does."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from pipeline.frames.counters import FrameCounters, FrameCounts
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Health
from pipeline.runtime.stream_capture import StreamCapture
from pipeline.settings.schema import InferenceSettings, StreamSettings
from tests.pipeline.made_frames import make_frame
from tests.pipeline.made_runs import PATIENCE_S

PICTURE = Picture.from_rgb(np.zeros((4, 4, 3), np.uint8))
DOOR = StreamSettings(name="door", source="rtsp://cam/1")


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with capture_logs():
        yield


class Watched(FrameCounters):
    """Books that know when somebody looks into them."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def of(self, stream: str) -> FrameCounts:
        account = super().of(stream)
        self.asked.set()
        return account


class Hanging:
    """The capture of a stream whose source hangs in its first read until it is let go."""

    def __init__(self, then: Callable[[Callable[[Health], None]], Iterator[Frame]]) -> None:
        self.reading, self.go_on = threading.Event(), threading.Event()
        self.counters = Watched()
        self.told: list[str] = []
        self.admitted: list[Frame] = []
        self._then = then
        self.capture = StreamCapture(
            DOOR, InferenceSettings, self._source, self.counters, self._admit, lambda report: self._tell(report)
        )
        self.thread = threading.Thread(target=self.capture.run)
        self.thread.start()
        assert self.reading.wait(PATIENCE_S)

    def _source(self, settings: StreamSettings, *, health: Callable[[Health], None], **_: Any) -> Iterator[Frame]:
        self.reading.set()
        assert self.go_on.wait(PATIENCE_S)
        yield from self._then(health)

    def _admit(self, frame: Frame) -> None:
        self.admitted.append(frame)

    def _tell(self, report: Health) -> None:
        self.told.append(report.state)

    def come_back(self) -> None:
        """Let the read go on, and the thread end."""
        self.capture.stop.set()
        self.go_on.set()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


def report(state: Any) -> Health:
    return Health("door", state, "made", time.time_ns())


@pytest.mark.parametrize("late", ["up", "down", "ended"])
def test_what_a_hung_source_tells_after_the_last_word_is_not_told(late: str) -> None:
    def then(health: Callable[[Health], None]) -> Iterator[Frame]:
        health(report(late))
        return iter(())

    hanging = Hanging(then)
    hanging.capture.end("ended", "the run was stopped")
    hanging.come_back()
    assert hanging.told == ["ended"]


def test_a_report_that_waits_for_the_last_frame_is_not_told_once_the_last_word_was_said() -> None:
    """The thread is past all checks and waits when the stream is removed."""

    def then(health: Callable[[Health], None]) -> Iterator[Frame]:
        health(report("down"))
        return iter(())

    hanging = Hanging(then)
    hanging.capture.stop.set()
    hanging.counters.captured("door")  # and is under way
    hanging.counters.asked.clear()
    hanging.go_on.set()
    assert hanging.counters.asked.wait(PATIENCE_S)
    ending = threading.Thread(target=hanging.capture.end, args=("ended", "removed"))
    ending.start()
    hanging.counters.published("door")
    ending.join(PATIENCE_S)
    hanging.come_back()
    assert hanging.told in (["down", "ended"], ["ended"])


def test_a_frame_that_a_hung_source_gives_after_the_last_word_is_not_counted() -> None:
    hanging = Hanging(lambda health: iter((make_frame("door", 0, PICTURE),)))
    hanging.capture.end("ended", "removed")
    hanging.come_back()
    assert hanging.admitted == []
    assert hanging.counters.of("door").captured == 0


def test_a_stream_that_has_ended_by_itself_says_so_once() -> None:
    def then(health: Callable[[Health], None]) -> Iterator[Frame]:
        health(report("ended"))
        return iter(())

    hanging = Hanging(then)
    hanging.come_back()
    hanging.capture.end("ended", "the run was stopped")
    assert hanging.told == ["ended"]
