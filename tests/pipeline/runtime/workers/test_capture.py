"""The capture process: what crashes in one of its streams is that stream's alone."""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from msgspec import structs
from structlog.testing import capture_logs

from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Health
from pipeline.runtime.graph import ProcessPlan
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.runtime.pulse import Pulse
from pipeline.runtime.ring import Layout, Ring
from pipeline.runtime.supervision import MAX_CRASHES
from pipeline.runtime.workers import capture as capturing
from pipeline.runtime.workers.spec import WorkerSpec
from pipeline.runtime.zmq_link import WorkerContext
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sources import capture as sources
from tests.pipeline.made_frames import make_frame
from tests.pipeline.made_readers import held_by

CRASHES = 3 * MAX_CRASHES
PICTURE = Picture.from_rgb(np.zeros((4, 4, 3), np.uint8))


class Told:
    """The other end of the process' pipe."""

    def send(self, said: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def part(tmp_path: Path) -> Iterator[WorkerSpec]:
    rows = [{"name": "door", "source": "rtsp://cam/1", "reconnect_min_s": 0.001, "reconnect_max_s": 0.002}]
    config = msgspec.convert({"streams": rows}, Config)
    names = tuple(stream.name for stream in config.streams)
    with ExitStack() as opened:
        frames = Ring.create(Layout(8, 4 * 4 * 3, names), "frames")
        opened.callback(frames.close)
        frames.streams.tune(config)
        inputs = Ring.create(Layout(1, 1), "inputs")
        opened.callback(inputs.close)
        open_events = OpenEventLog.create(names)
        opened.callback(open_events.close)
        place = WorkerContext(ProcessPlan().first_capture, frames, inputs, str(tmp_path))
        yield WorkerSpec("capture 0", place, config, config.streams, {}, None, None, 0, open_events, None)  # type: ignore[arg-type]


def test_a_stream_that_keeps_crashing_ends_neither_the_process_nor_the_run(
    part: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def crashing(settings: StreamSettings, **more: Any) -> Iterator[Frame]:
        tried.append(settings.name)
        if len(tried) == CRASHES:
            part.context.frames.shut(part.context.number)
        raise ZeroDivisionError("made to crash")

    monkeypatch.setattr(sources, "capture", crashing)
    monkeypatch.setattr(capturing, "TOLD_S", 0.0)
    capturing.capture(part, Told(), Pulse())  # type: ignore[arg-type]
    assert len(tried) >= CRASHES


def test_a_picture_that_cannot_be_written_gives_its_slot_back_and_is_counted(
    part: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def given(settings: StreamSettings, *, stop: threading.Event, first_seq: int, **more: Any) -> Iterator[Frame]:
        if first_seq == CRASHES:
            part.context.frames.shut(part.context.number)
            assert stop.wait(60.0)
            return
        yield make_frame("door", first_seq, PICTURE)

    def refused(*_: Any) -> Picture:
        raise ValueError("no such plane")

    monkeypatch.setattr(sources, "capture", given)
    monkeypatch.setattr(capturing, "write_picture", refused)
    monkeypatch.setattr(capturing, "TOLD_S", 0.0)
    capturing.capture(part, Told(), Pulse())  # type: ignore[arg-type]
    account = part.context.frames.of("door")
    assert (account.captured, account.dropped) == (CRASHES, {"crash": CRASHES})
    assert held_by(part.context.frames, part.context.number) == 0


class HangingCamera:
    """Stands in for cv2.VideoCapture: the second read of the first one hangs until it is let go."""

    opened = 0
    go_on = threading.Event()

    def __init__(self, device: int) -> None:
        HangingCamera.opened += 1
        self._first, self._reads = HangingCamera.opened == 1, 0

    def isOpened(self) -> bool:  # noqa: N802, OpenCV's name
        return True

    def read(self) -> tuple[bool, npt.NDArray[np.uint8]]:
        self._reads += 1
        if self._first and self._reads == 2:
            assert HangingCamera.go_on.wait(60.0)
        return True, np.zeros((4, 4, 3), np.uint8)

    def get(self, what: int) -> float:
        return 0.0

    def release(self) -> None:
        pass


def test_a_camera_whose_read_hangs_is_down_meanwhile(part: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", HangingCamera)
    monkeypatch.setattr(sys, "platform", "elsewhere")  # where cameras are no files
    monkeypatch.setattr(capturing, "TOLD_S", 0.0)
    settings = structs.replace(part.streams[0], source="0", timeout_s=0.1)
    told: list[str] = []

    def publish(admission: capturing.Admission, report: Health) -> None:
        told.append(f"{report.state}: {report.cause}")
        if report.state == "down":
            HangingCamera.go_on.set()
        if len(told) == 3:
            part.context.frames.shut(part.context.number)

    monkeypatch.setattr(capturing.Admission, "_publish", publish)
    monkeypatch.setattr(capturing.Admission, "put", lambda admission, frame: None)  # nobody would take it
    capturing.capture(replace(part, streams=(settings,)), Told(), Pulse())  # type: ignore[arg-type]
    hangs = "down: the camera has given no picture for 0.1 s: a read of it hangs"
    assert told == ["up: 4x4 camera", hangs, "up: 4x4 camera"]
