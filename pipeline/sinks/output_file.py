"""A file that FFmpeg writes to and never hears an error of."""

import os
from pathlib import Path


class OutputFile:
    """A file for ``av.open(..., "w")``; what could not be written is told by :meth:`check`.

    FFmpeg's MP4 muxer may crash the whole process when it is used, or only closed, after a write that failed. So after
    the first one this takes all others and writes none of them; what was written up to the last :meth:`keep` stays, and
    plays.

    Args:
        path: what is there goes.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None
        self._path = path
        self._at = self._size = self._kept = 0

    def write(self, data: bytes) -> int:
        """Write, or remember why that failed."""
        if self._error is None:
            try:
                self._file.seek(self._at)
                rest = memoryview(data)
                while rest:
                    rest = rest[self._file.write(rest) :]
            except OSError as error:
                self._error = error
        self._at += len(data)
        self._size = max(self._size, self._at)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in the file."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place in the file."""
        return self._at

    def read(self, size: int) -> bytes:
        """Read from this place on; the muxer does so as it makes a plain MP4 of one in fragments."""
        self._file.seek(self._at)
        data = self._file.read(size) or b""
        self._at += len(data)
        return data

    def keep(self) -> bool:
        """What was written so far is whole; returns whether that is more than before."""
        kept, self._kept = self._kept, self._size if self._error is None else self._kept
        return self._kept > kept

    def close(self) -> None:
        """Close the file; of one that could not be written to its end what is whole is left."""
        if self._error is not None:
            self._file.truncate(self._kept)
        self._file.close()

    def check(self) -> None:
        """Raise OSError, with the path, if anything could not be written."""
        if self._error is not None:
            raise OSError(self._error.errno, os.strerror(self._error.errno or 0), str(self._path))
