"""Temporary folders for sockets: one whose process was killed is removed by the next that makes one."""

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Final

PREFIX: Final = "trunkline-"
HELD: Final = ".held"  # a file that its process has locked, which the system undoes however that ends


class HeldFolder:
    """A folder that this user alone may enter, there until it is cleaned up or this process ends.

    Args:
        kind: what it is for, in its name.
    """

    def __init__(self, kind: str = "") -> None:
        remove_left()
        self.name = tempfile.mkdtemp(prefix=f"{PREFIX}{kind}-" if kind else PREFIX)
        lock = os.open(new := f"{self.name}/{HELD}.new", os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(new, f"{self.name}/{HELD}")  # now that it is locked: before, nobody takes it for left
        self._remove = weakref.finalize(self, _remove, self.name, lock)

    def cleanup(self) -> None:
        """Remove it with all that is in it; may be called twice."""
        self._remove()

    def __enter__(self) -> str:
        return self.name

    def __exit__(self, *exc: object) -> None:
        self.cleanup()


def remove_left() -> None:
    """Remove the folders of this user whose processes are gone, and no others."""
    for file in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{HELD}"):
        with suppress(OSError):  # it is another user's or held, or somebody else removes it just now
            if file.parent.lstat().st_uid != os.getuid() or file.parent.is_symlink():
                continue
            lock = os.open(file, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(file.parent, ignore_errors=True)
            finally:
                os.close(lock)


def _remove(name: str, lock: int) -> None:
    shutil.rmtree(name, ignore_errors=True)
    os.close(lock)
