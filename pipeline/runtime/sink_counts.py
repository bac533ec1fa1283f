"""Counts of what sinks were given, in shared memory (``links = "zmq"``): they outlive the process that counts."""

import mmap
import os
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, Self

import numpy as np

from pipeline.runtime.shared_file import shared_file
from pipeline.sinks.books import WORDS


class SinkCounters:
    """The rows of :class:`pipeline.sinks.books.SinkBook`, one a sink. Like the ring's, the memory has no name.

    Attributes:
        rows: int64 (sinks, WORDS).
    """

    def __init__(self, sinks: int, fd: int) -> None:
        self._sinks, self._fd = sinks, fd
        self.rows = np.frombuffer(mmap.mmap(fd, 8 * sinks * WORDS), np.int64).reshape(sinks, WORDS)

    @classmethod
    def create(cls, sinks: int) -> Self:
        """Make them, all 0; ConfigError where there is too little memory."""
        return cls(sinks, shared_file(8 * sinks * WORDS, "the counts of sinks"))

    def __reduce__(self) -> tuple[Callable[..., "SinkCounters"], tuple[int, object]]:
        # Only while a child process is being started: the file goes with it.
        return _opened, (self._sinks, reduction.DupFd(self._fd))

    def close(self) -> None:
        """Close the file; the memory is freed when no array points into it any more."""
        os.close(self._fd)


def _opened(sinks: int, fd: Any) -> SinkCounters:
    return SinkCounters(sinks, fd.detach())
