"""One lock for the threads of several processes, which is free again when its owner dies."""

import fcntl
import os
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any


class ProcessLock:
    """A lock that a thread may take again while it holds it. Hand it to a child process as an argument.

    It is a POSIX record lock of an unnamed file. Such a lock belongs to a process, and the kernel refuses to wait
    (EDEADLK) where waiting processes form a circle, although other threads of theirs would go on. So all that a run
    shares between its processes stands under one such lock: a process that waits for it holds none.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = anonymous_file("trunkline-lock") if fd is None else fd
        self._threads = threading.RLock()  # the kernel's lock is the process'
        self._depth = 0

    def __reduce__(self) -> tuple[Callable[..., "ProcessLock"], tuple[object]]:
        # Only while a child process is being started: the file goes with it.
        return _opened, (reduction.DupFd(self._fd),)

    def __enter__(self) -> None:
        self._threads.acquire()
        try:
            if self._depth == 0:
                fcntl.lockf(self._fd, fcntl.LOCK_EX)
            self._depth += 1
        except BaseException:
            self._threads.release()
            raise

    def __exit__(self, *exc: object) -> None:
        self._depth -= 1
        try:
            if self._depth == 0:
                fcntl.lockf(self._fd, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def anonymous_file(name: str) -> int:
    """Return the descriptor of an empty file in memory that no folder lists; ``name`` shows in ``/proc``."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile() as file:  # macOS
        return os.dup(file.fileno())


def _opened(fd: Any) -> ProcessLock:
    return ProcessLock(fd.detach())
