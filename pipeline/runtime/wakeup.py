"""Wake a thread of another process."""

import os
import select
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import reduction
from typing import Any


class Wakeup:
    """A pipe that any process may signal and one thread waits at. Pass it to a child process as an argument.

    It only replaces polling: the waiting thread checks its condition afterwards, and nothing depends on a signal.
    """

    def __init__(self, ends: tuple[int, int] | None = None) -> None:
        self._read, self._write = os.pipe() if ends is None else ends
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def __reduce__(self) -> tuple[Callable[..., "Wakeup"], tuple[object, object]]:
        # Only while a child process is being started: the pipe goes with it.
        return _opened, (reduction.DupFd(self._read), reduction.DupFd(self._write))

    def ring(self) -> None:
        """Wake the waiting thread; if none waits, the next wait returns at once."""
        with suppress(BlockingIOError):  # the pipe is full: it is signalled already
            os.write(self._write, b"!")

    def wait(self, timeout_s: float) -> None:
        """Wait until it is signalled, or return at once if it was since the last wait; ``timeout_s`` at the most."""
        poll = select.poll()  # select.select knows no file beyond 1023
        poll.register(self._read, select.POLLIN)
        if poll.poll(round(timeout_s * 1000)):
            with suppress(BlockingIOError):  # another thread has read it
                os.read(self._read, 4096)

    def close(self) -> None:
        """Close the pipe."""
        os.close(self._read)
        os.close(self._write)


def _opened(read: Any, write: Any) -> Wakeup:
    return Wakeup((read.detach(), write.detach()))
