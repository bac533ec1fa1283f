"""Cameras of this host, through OpenCV."""

import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np

from engines.errors import SourceError
from pipeline.frames.picture import Picture
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Decoded, Lost


class CameraSource:
    """A camera by its index or device."""

    live: ClassVar[bool] = True

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        """Nothing: a camera may be plugged in later."""

    def read(self, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
        """Pictures as they come."""
        return _read(self._settings, stop)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of the largest, in RGB, which OpenCV gives."""
        return 3 * largest[0] * largest[1]


def _read(settings: StreamSettings, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
    device = f"/dev/video{settings.source}" if settings.source.isdecimal() else settings.source
    # OpenCV writes to stderr about each camera it cannot find.
    if sys.platform == "linux" and not Path(device).exists():
        raise SourceError(f"there is no camera {device}")
    if sys.platform == "linux" and not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"no permission to use the camera {device}")
    camera = cv2.VideoCapture(int(settings.source) if settings.source.isdecimal() else settings.source)
    try:
        if not camera.isOpened():
            raise SourceError(f"the camera {device} cannot be opened; another program may be using it")
        while not stop.is_set():
            given, pixels = camera.read()
            if not given:
                raise SourceError("the camera gives no pictures any more")
            rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            yield Decoded(Picture.from_rgb(rgb), None, "camera")
    finally:
        camera.release()
