"""A file that FFmpeg writes and never hears an error of: it crashes when it ends a file that it could not begin."""

import os
from pathlib import Path


class OutputFile:
    """A file for ``av.open(..., "w")``; what could not be written is told by :meth:`check`.

    After the first error nothing more is written.

    Args:
        path: what is there goes.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self._error: OSError | None = None
        self._path = path

    def write(self, data: bytes) -> int:
        """Write, or remember why that failed."""
        if self._error is None:
            try:
                left = memoryview(data)
                while left:
                    left = left[self._file.write(left) :]
            except OSError as error:
                self._error = error
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def check(self) -> None:
        """Raise OSError, with the path, if anything could not be written."""
        if self._error is not None:
            raise OSError(self._error.errno, os.strerror(self._error.errno or 0), str(self._path))
