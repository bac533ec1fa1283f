"""Cameras of this host, through OpenCV."""

import os
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import ClassVar

import cv2
import numpy as np

from engines.arrays import Pixels
from engines.errors import SourceError
from pipeline.frames.picture import Picture
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Decoded, Lost


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
        device = f"/dev/video{source}" if source.isdecimal() else source
        # OpenCV writes to stderr about each camera it cannot find.
        if sys.platform == "linux" and not Path(device).exists():
            raise SourceError(f"there is no camera {device}")
        if sys.platform == "linux" and not os.access(device, os.R_OK | os.W_OK):
            raise SourceError(f"no permission to use the camera {device}")
        if self._reader is not None:
            self._reader.join(timeout_s)
            if self._reader.is_alive():
                raise hanging
        more, given = SimpleQueue[bool](), SimpleQueue[Pixels | Exception]()
        name, arguments = f"camera {device}", (source, device, more, given)
        self._reader = threading.Thread(target=_give, args=arguments, name=name, daemon=True)
        self._reader.start()
        release_s = timeout_s
        try:
            while not stop.is_set():
                more.put(True)
                picture = given.get(timeout=timeout_s)
                if isinstance(picture, Exception):
                    raise picture
                yield Decoded(Picture.from_rgb(picture), None, "camera")
        except Empty:
            release_s = 0.0
            raise hanging from None
        finally:
            more.put(False)
            self._reader.join(release_s)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of the largest, in RGB, which OpenCV gives."""
        return 3 * largest[0] * largest[1]


def _give(source: str, device: str, more: "SimpleQueue[bool]", given: "SimpleQueue[Pixels | Exception]") -> None:
    """Open a camera and give a picture each time that one ``more`` is wanted; or what went wrong."""
    camera = cv2.VideoCapture(int(source) if source.isdecimal() else source)
    try:
        if not camera.isOpened():
            raise SourceError(f"the camera {device} cannot be opened; another program may be using it")
        while more.get():
            came, pixels = camera.read()
            if not came:
                raise SourceError("the camera gives no pictures any more")
            given.put(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False))
    except Exception as error:  # it is raised again in the thread of the stream, whatever it is
        given.put(error)
    finally:
        camera.release()
