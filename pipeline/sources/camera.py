"""Cameras of this host, through OpenCV."""

import os
import sys
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import ClassVar, Final

import cv2
import numpy as np

from engines.arrays import Pixels
from engines.errors import SourceError
from pipeline.frames.picture import Picture
from pipeline.settings.schema import CameraSettings, StreamSettings
from pipeline.sources.base import Decoded, Lost

NUMBERED: Final = "/dev/video"  # and a number


class CameraSource:
    """A camera by its index or device.

    It is read in a thread of its own, picture by picture: a driver's read may hang, and nothing can interrupt it. Then
    the stream is lost, and the camera is opened again once that read has come back.
    """

    live: ClassVar[bool] = True

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self._reader: threading.Thread | None = None

    def check(self) -> None:
        """Nothing: a camera may be plugged in later."""

    def read(self, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
        """Pictures as they come; SourceError when none has come for ``timeout_s``."""
        source, timeout_s = self._settings.source, self._settings.timeout_s
        hanging = SourceError(f"the camera has given no picture for {timeout_s:g} s: a read of it hangs")
        device = f"{NUMBERED}{source}" if source.isdecimal() else source
        # OpenCV writes to stderr about each camera it cannot find.
        if sys.platform == "linux" and not Path(device).exists():
            raise SourceError(f"there is no camera {device}")
        if sys.platform == "linux" and not os.access(device, os.R_OK | os.W_OK):
            raise SourceError(f"no permission to use the camera {device}")
        if self._reader is not None:
            self._reader.join(timeout_s)
            if self._reader.is_alive():
                raise hanging
        more, given = SimpleQueue[bool](), SimpleQueue[_Shot | Exception]()
        name, arguments = f"camera {device}", (self._settings, device, more, given)
        self._reader = threading.Thread(target=_give, args=arguments, name=name, daemon=True)
        self._reader.start()
        release_s = timeout_s
        try:
            while not stop.is_set():
                more.put(True)
                shot = given.get(timeout=timeout_s)
                if isinstance(shot, Exception):
                    raise shot
                yield Decoded(Picture.from_rgb(shot.pixels), None, shot.form, notes=shot.notes)
        except Empty:
            release_s = 0.0
            raise hanging from None
        finally:
            more.put(False)
            self._reader.join(release_s)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of the largest, in RGB, which OpenCV gives."""
        return 3 * largest[0] * largest[1]


@dataclass(frozen=True, slots=True)
class _Shot:
    """A picture, what the camera says that it is, and how that differs from what was asked for."""

    pixels: Pixels
    form: str
    notes: tuple[str, ...]


def _give(
    settings: StreamSettings, device: str, more: "SimpleQueue[bool]", given: "SimpleQueue[_Shot | Exception]"
) -> None:
    """Open a camera and give a picture each time that one ``more`` is wanted; or what went wrong."""
    camera = cv2.VideoCapture(_opened_as(settings.source))
    try:
        if not camera.isOpened():
            raise SourceError(f"the camera {device} cannot be opened; another program may be using it")
        _ask(camera, settings.camera)
        form: tuple[str, tuple[str, ...]] | None = None
        while more.get():
            came, pixels = camera.read()
            if not came:
                raise SourceError("the camera gives no pictures any more")
            if form is None:  # some drivers know only now
                form = _form(camera, settings.camera, (pixels.shape[1], pixels.shape[0]))
            given.put(_Shot(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False), *form))
    except Exception as error:  # it is raised again in the thread of the stream, whatever it is
        given.put(error)
    finally:
        camera.release()


def _opened_as(source: str) -> int | str:
    """A camera as OpenCV is to open it: by its number, wherever it has one, since it takes a path for a video first."""
    number = source if source.isdecimal() else os.path.realpath(source).removeprefix(NUMBERED)
    return int(number) if number.isdecimal() else source


def _ask(camera: cv2.VideoCapture, wanted: CameraSettings) -> None:
    """Ask for the pixel format first: which sizes and rates there are depends on it."""
    if wanted.pixel_format is not None:
        camera.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*wanted.pixel_format))
    for what, value in (
        (cv2.CAP_PROP_FRAME_WIDTH, wanted.width),
        (cv2.CAP_PROP_FRAME_HEIGHT, wanted.height),
        (cv2.CAP_PROP_FPS, wanted.rate_hz),
    ):
        if value is not None:
            camera.set(what, value)


def _form(camera: cv2.VideoCapture, wanted: CameraSettings, size: tuple[int, int]) -> tuple[str, tuple[str, ...]]:
    """What the camera says that it gives, and what of that is not as asked for."""
    code = int(camera.get(cv2.CAP_PROP_FOURCC))
    letters = "".join(chr(code >> shift & 0xFF) for shift in (0, 8, 16, 24)) if code > 0 else ""
    pixel_format = letters if letters.isprintable() else ""
    rate_hz = camera.get(cv2.CAP_PROP_FPS)
    asked = (
        ("width", wanted.width, size[0]),
        ("height", wanted.height, size[1]),
        ("pixel_format", wanted.pixel_format, pixel_format or None),
        ("rate_hz", wanted.rate_hz, rate_hz if rate_hz > 0 else None),
    )
    notes = tuple(
        f"{name} {value:g} instead of {want:g}"
        if isinstance(want, float | int)
        else f"{name} {value} instead of {want}"
        for name, want, value in asked
        if want is not None and value is not None and want != value
    )
    told = [word for word in (pixel_format, f"{rate_hz:g} frames/s" if rate_hz > 0 else "") if word]
    return " ".join(["camera", *told]), notes
