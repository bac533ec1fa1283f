"""Memory that the processes of a run share, without a name."""

import mmap
import os
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any, Final, Self

from engines.errors import ConfigError
from engines.hardware import free_memory_bytes as free_bytes
from pipeline.runtime.process_lock import anonymous_file

MIB: Final = 2**20


class SharedFile:
    """A file in memory, without a name. Hand it to a child process as an argument: there it is the same memory.

    It is gone with the last process that has it open, however that one ends.

    Attributes:
        memory: its bytes.
    """

    def __init__(self, size: int, fd: int) -> None:
        self._size, self._fd = size, fd
        self.memory = mmap.mmap(fd, size)

    @classmethod
    def create(cls, size: int, what: str) -> Self:
        """Make one of ``size`` bytes that are taken now.

        Raises:
            ConfigError: there is not so much memory; it says how much is needed, and that it is for ``what``.
        """
        needed = f'links is "zmq", which needs {size / MIB:.0f} MiB of shared memory for {what} here'
        free = free_bytes()
        if size > free:
            raise ConfigError(
                f"{needed}, and {free / MIB:.0f} MiB are free: run fewer streams, a smaller inference.max_batch or "
                'links = "queue"'
            )
        fd = anonymous_file("trunkline-ring")
        try:
            os.ftruncate(fd, size)
            if hasattr(os, "posix_fallocate"):  # not on macOS
                # Taken now: a page that cannot be had later would kill the process that touches it.
                os.posix_fallocate(fd, 0, size)
            return cls(size, fd)
        except OSError as error:
            os.close(fd)
            raise ConfigError(f"{needed}: {error.strerror}") from error

    def __reduce__(self) -> tuple[Callable[..., "SharedFile"], tuple[int, object]]:
        # Only while a child process is being started: the file goes with it.
        return _opened, (self._size, reduction.DupFd(self._fd))

    def close(self) -> None:
        """Close the file; the memory goes when nothing points into it any more."""
        os.close(self._fd)


def _opened(size: int, fd: Any) -> SharedFile:
    return SharedFile(size, fd.detach())
