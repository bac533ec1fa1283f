"""Named pipes and the standard input, read such that a stop ends it."""

import os
import select
import threading
import time
from pathlib import Path
from typing import Final, Self

from engines.errors import SourceError
from pipeline.sources.whole import WholeStream

LOOK_MS: Final = 100  # between two looks whether to stop


class PipeReader:
    """Bytes of a pipe for FFmpeg, from the first on; a pipe is read once.

    Args:
        path: of a named pipe, which is opened whether or not anybody writes to it yet; None: the standard input.
        stop: ends it, as if the pipe had ended.
        timeout_s: without a byte, after which reading fails; None: it waits.
    """

    def __init__(self, path: Path | None, stop: threading.Event, timeout_s: float | None) -> None:
        self.name = "pipe" if path is None else str(path)
        self._stop, self._timeout_s = stop, timeout_s
        self._fd = os.dup(0) if path is None else os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        self._whole, self._ended = WholeStream(), False

    @property
    def missing(self) -> str | None:
        """What is missing at its end; None where nothing is, or it does not tell, or has not ended."""
        return self._whole.end() if self._ended else None

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        asked_s = time.monotonic()
        while not self._stop.is_set():
            for _, event in self._poll.poll(LOOK_MS):
                data = os.read(self._fd, size) if event & select.POLLIN else b""  # whoever wrote is gone
                self._ended = not data
                self._whole.took(data)
                return data
            if self._timeout_s is not None and time.monotonic() - asked_s > self._timeout_s:
                raise SourceError(f"no data for {self._timeout_s:g} s")
        return b""

    def close(self) -> None:
        """Nobody reads it any more."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
