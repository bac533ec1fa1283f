"""Counts of what sinks were given, in shared memory (``links = "zmq"``): they outlive the process that counts."""

from typing import Self

import numpy as np

from pipeline.runtime.shared_file import SharedFile
from pipeline.sinks.books import WORDS


class SinkCounters:
    """The rows of :class:`pipeline.sinks.books.SinkBook`, one a sink. Like the ring's, the memory has no name.

    Attributes:
        rows: int64 (sinks, WORDS).
    """

    def __init__(self, sinks: int, file: SharedFile) -> None:
        self._sinks, self._file = sinks, file
        self.rows = np.frombuffer(file.memory, np.int64).reshape(sinks, WORDS)

    @classmethod
    def create(cls, sinks: int) -> Self:
        """Make them, all 0; ConfigError where there is too little memory."""
        return cls(sinks, SharedFile.create(8 * sinks * WORDS, "the counts of sinks"))

    def __reduce__(self) -> tuple[type["SinkCounters"], tuple[int, SharedFile]]:
        return SinkCounters, (self._sinks, self._file)

    def close(self) -> None:
        """Close the file; the memory is freed when no array points into it any more."""
        self._file.close()
