"""Files that are replaced once the new ones are whole."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

# Rights of what shows people or what they did, and of its folders: their owner's alone.
PRIVATE: Final = 0o600
PRIVATE_FOLDER: Final = 0o700


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path``, in a folder that is there, at the end.

    After an exception ``path`` is what it was. Readers see the old content or the new one; of several writers at once
    the last one's content stays.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            yield file
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file with this content, as :func:`replacing` does."""
    with replacing(path) as file:
        file.write(content)


def write_private(path: Path, content: bytes) -> None:
    """Write a file, which its owner alone may read where it is made now; OSError where that fails."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, PRIVATE), "wb") as file:
        file.write(content)
