"""Cameras into frames."""

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import msgspec
import numpy as np
import pytest

from engines.arrays import Pixels
from pipeline.settings.schema import CameraSettings
from tests.pipeline.made_captures import PATIENCE_S, Captured


class FakeCamera:
    """Stands in for cv2.VideoCapture: gives three blue pictures, then none."""

    released = 0

    def __init__(self, device: int | str) -> None:
        self.device = device
        self._left = 3

    def isOpened(self) -> bool:  # noqa: N802, OpenCV's name
        return self.device in (0, "/dev/null")

    def read(self) -> tuple[bool, Pixels | None]:
        self._left -= 1
        return (True, np.full((4, 6, 3), (255, 0, 0), np.uint8)) if self._left >= 0 else (False, None)

    def set(self, what: int, value: float) -> bool:
        return False

    def get(self, what: int) -> float:
        return 0.0

    def release(self) -> None:
        FakeCamera.released += 1


@pytest.fixture
def cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera)
    monkeypatch.setattr(sys, "platform", "elsewhere")  # where cameras are no files
    FakeCamera.released = 0


@pytest.mark.usefixtures("cameras")
def test_camera_gives_rgb_pictures_is_released_and_opened_again_when_it_fails() -> None:
    captured = Captured("0")
    frames = captured.until_reports(4)
    assert captured.health == [("up", "6x4 camera"), ("down", "the camera gives no pictures any more")] * 2
    assert len(frames) == 6
    assert (frames[0].picture.rgb() == [0, 0, 255]).all()
    assert FakeCamera.released == 2


@pytest.mark.usefixtures("cameras")
def test_a_camera_has_lasting_names_beside_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.realpath", {"/dev/v4l/by-id/usb-Maker_Camera-video-index0": "/dev/video0"}.__getitem__)
    captured = Captured("/dev/v4l/by-id/usb-Maker_Camera-video-index0")
    assert len(captured.until_reports(1)) == 1
    assert captured.health == [("up", "6x4 camera")]


class ModeCamera(FakeCamera):
    """Has MJPG at 6x4 and 25 frames/s, whatever else it is asked for; sizes are known once the format is."""

    asked: ClassVar[list[int]] = []

    def set(self, what: int, value: float) -> bool:
        ModeCamera.asked.append(what)
        return True

    def get(self, what: int) -> float:
        modes = {cv2.CAP_PROP_FOURCC: cv2.VideoWriter.fourcc(*"MJPG"), cv2.CAP_PROP_FPS: 25.0}
        return float(modes.get(what, 0.0))


@pytest.mark.usefixtures("cameras")
def test_a_camera_is_asked_for_a_mode_and_what_it_gives_instead_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", ModeCamera)
    ModeCamera.asked.clear()
    wanted = {"width": 1920, "height": 4, "rate_hz": 30.0, "pixel_format": "MJPG"}
    captured = Captured("0", camera=msgspec.convert(wanted, CameraSettings))
    captured.until_reports(1)
    assert captured.health[0] == (
        "up", "6x4 camera MJPG 25 frames/s, width 6 instead of 1920, rate_hz 25 instead of 30",
    )  # fmt: skip
    assert ModeCamera.asked == [
        cv2.CAP_PROP_FOURCC, cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS,
    ]  # fmt: skip


@pytest.mark.parametrize("code", ["MJ", "MJPEG", ""])
def test_a_pixel_format_is_four_letters(code: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=r"matching regex"):
        msgspec.convert({"pixel_format": code}, CameraSettings)


class HangingCamera(FakeCamera):
    """Its second read hangs until it is let go; those that are opened after it give pictures for ever."""

    opened, reading = 0, 0  # reading: how many reads are under way
    go_on = threading.Event()

    def __init__(self, device: int | str) -> None:
        super().__init__(device)
        HangingCamera.opened += 1
        self._hangs = HangingCamera.opened == 1
        self._left = 1_000_000

    def read(self) -> tuple[bool, Pixels | None]:
        if self._hangs and self._left < 1_000_000:
            HangingCamera.reading += 1
            assert HangingCamera.go_on.wait(PATIENCE_S)
            HangingCamera.reading -= 1
        return super().read()


HUNG = ("down", "the camera has given no picture for 0.2 s: a read of it hangs")


@pytest.fixture
def hanging_camera(cameras: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cv2, "VideoCapture", HangingCamera)
    HangingCamera.opened = HangingCamera.reading = 0
    HangingCamera.go_on.clear()
    yield
    HangingCamera.go_on.set()
    for thread in threading.enumerate():
        if thread.name.startswith("camera "):
            thread.join(PATIENCE_S)


@pytest.mark.usefixtures("hanging_camera")
def test_a_camera_whose_read_hangs_is_down_within_its_timeout_and_comes_back_with_the_read() -> None:
    captured = Captured("0", timeout_s=0.2)
    next(captured.frames)
    began_s = time.monotonic()
    threading.Timer(1.0, HangingCamera.go_on.set).start()
    frame = next(captured.frames)
    assert captured.health == [("up", "6x4 camera"), HUNG, ("up", "6x4 camera")]
    told_s = (captured.reports[1].at_ns - captured.reports[0].at_ns) / 1e9
    assert 0.2 <= told_s < 1.0 < time.monotonic() - began_s
    assert frame.seq == 1
    assert (HangingCamera.opened, HangingCamera.released) == (2, 1)
    captured.stop.set()
    list(captured.frames)
    assert HangingCamera.released == 2


@pytest.mark.usefixtures("hanging_camera")
def test_a_camera_whose_read_hangs_for_ever_holds_one_thread_and_does_not_hold_up_a_stop() -> None:
    captured = Captured("0", timeout_s=0.2)
    next(captured.frames)
    threading.Timer(1.0, captured.stop.set).start()  # after several attempts
    assert list(captured.frames) == []
    assert captured.health == [("up", "6x4 camera"), HUNG]
    assert (HangingCamera.opened, HangingCamera.reading) == (1, 1)


@pytest.mark.usefixtures("cameras")
def test_camera_in_use_is_a_cause_and_is_released() -> None:
    captured = Captured("1")
    assert captured.until_reports(1) == []
    assert captured.health == [("down", "the camera /dev/video1 cannot be opened; another program may be using it")]
    assert FakeCamera.released == 1


@pytest.mark.skipif(not Path("/dev").exists() or Path("/dev/video97").exists(), reason="cameras are not files here")
def test_camera_that_is_not_there(capfd: pytest.CaptureFixture[str]) -> None:
    captured = Captured("97")
    assert captured.until_reports(1) == []
    assert captured.health == [("down", "there is no camera /dev/video97")]
    assert capfd.readouterr().err == ""
