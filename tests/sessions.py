"""Commands that start processes of their own, none of which outlives a test."""

import os
import secrets
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

MARK = "TRUNKLINE_STARTED_BY"  # a variable that all of them inherit, those with a session of their own, too


def ended_with_all_it_started(command: list[str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run a command, and kill what is left of all that it started, also where it takes too long.

    Raises:
        TimeoutExpired: it took longer than ``timeout_s``.
    """
    mark = secrets.token_hex(8)
    environment = os.environ | {MARK: mark}
    try:
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False)
    finally:
        while left := list(_marked(mark)):
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)


def _marked(mark: str) -> Iterator[int]:
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile, or is another user's
            if f"{MARK}={mark}".encode() in (folder / "environ").read_bytes():
                yield int(folder.name)
