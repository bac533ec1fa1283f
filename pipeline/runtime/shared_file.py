"""Memory that the processes of a run share, without a name."""

import os
from typing import Final

from engines.errors import ConfigError
from engines.hardware import free_memory_bytes as free_bytes
from pipeline.runtime.process_lock import anonymous_file

MIB: Final = 2**20


def shared_file(size: int, what: str) -> int:
    """A file in memory, without a name, of ``size`` bytes that are taken now.

    Raises:
        ConfigError: there is not so much memory; it says how much is needed, and that it is for ``what``.
    """
    free = free_bytes()
    if size > free:
        raise ConfigError(
            f'links is "zmq", which needs {size / MIB:.0f} MiB of shared memory for {what} here, and '
            f'{free / MIB:.0f} MiB are free: run fewer streams, a smaller inference.max_batch or links = "queue"'
        )
    fd = anonymous_file("trunkline-ring")
    try:
        os.ftruncate(fd, size)
        if hasattr(os, "posix_fallocate"):  # not on macOS
            # Taken now: a page that cannot be had later would kill the process that touches it.
            os.posix_fallocate(fd, 0, size)
    except OSError as error:
        os.close(fd)
        raise ConfigError(
            f'links is "zmq", which needs {size / MIB:.0f} MiB of shared memory for {what} here: {error.strerror}'
        ) from error
    return fd
