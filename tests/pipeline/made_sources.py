"""Sources that misbehave."""

import os
import select
import threading
from pathlib import Path

QUIET_S = 2.0  # without a frame, after which a source that is read as fast as can be hangs


def not_a_pipe(mode: int) -> bool:
    """Stands in for stat.S_ISFIFO: a pipe is read as a file is, whose reads nothing ends."""
    return False


class HangingFile:
    """A named pipe that gives every reader a clip and then neither more nor an end.

    Where stat.S_ISFIFO is :func:`not_a_pipe`, the last read of it blocks, as of a file of a server that is gone.

    Args:
        path: of the pipe, which is made.
        clip: a video in Matroska, which can be read without seeking.
    """

    def __init__(self, path: Path, clip: Path) -> None:
        self.path = path
        self._clip = clip.read_bytes()
        self._over = False
        os.mkfifo(path)
        self._thread = threading.Thread(target=self._feed, daemon=True)
        self._thread.start()

    def _feed(self) -> None:
        while not self._over:
            pipe = os.open(self.path, os.O_WRONLY)  # until somebody reads
            try:
                self._give(pipe)
            except BrokenPipeError:
                pass
            finally:
                os.close(pipe)

    def _give(self, pipe: int) -> None:
        rest = memoryview(self._clip)
        while rest and not self._over:
            rest = rest[os.write(pipe, rest) :]
        poll = select.poll()
        poll.register(pipe, select.POLLERR)
        while not self._over and not poll.poll(50):  # until the reader is gone
            pass

    def close(self) -> None:
        """Let whoever reads go on."""
        self._over = True
        reader = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        self._thread.join()
        os.close(reader)
