"""Messages in files, one a line, as JSON."""

import os
from pathlib import Path
from typing import Annotated, Final

import msgspec

from engines.errors import ConfigError
from engines.files import PRIVATE
from pipeline.wire.messages import Message, MessageType, encode

MB: Final = 1_000_000  # bytes
BLOCK: Final = 65_536  # bytes that are looked through at a time
BEGINS: Final = b'{"type":'  # as every message does


class JsonLinesSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where lines go, and how many are kept: the disk holds ``files`` times ``max_mb`` at the most."""

    path: str  # of the file that is written; the one before it is PATH.1, and so on
    types: tuple[MessageType, ...] = ("frame", "event", "health")
    max_mb: Annotated[float, msgspec.Meta(gt=0.0)] = 100.0  # of one file, in 10^6 bytes
    files: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 10  # in all; older ones are deleted


class JsonLinesSink:
    """Appends each message to a file, at once.

    A file that a line would make too large is put aside first. A line that a crash or a full disk cut short is taken
    back, so that every line is a message.

    Raises:
        ConfigError: the file cannot be written.
    """

    Settings = JsonLinesSettings

    def __init__(self, settings: JsonLinesSettings) -> None:
        self._path, self._types, self._files = Path(settings.path), settings.types, settings.files
        self._max_bytes = round(settings.max_mb * MB)
        try:
            self._fd, self._size = _open(self._path)
        except OSError as error:
            raise ConfigError(
                f"path is {settings.path!r}, but must be a file that can be written, in a folder that is there: "
                f"{error.strerror}"
            ) from error
        except ValueError:
            raise ConfigError(f"path is {settings.path!r}, which is there, but is no file of messages") from None

    def send(self, message: Message) -> None:
        """Append a line; OSError where it cannot be written, and nothing of it is left then."""
        if message.__struct_config__.tag not in self._types:
            return
        line = encode(message, "json") + b"\n"
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)

    def _rotate(self) -> None:
        """Put the file aside, the ones before it further back, and begin a new one."""
        for number in range(self._files - 1, 0, -1):
            before = self._aside(number - 1) if number > 1 else self._path
            if before.exists():
                before.replace(self._aside(number))
        if self._files == 1:
            self._path.unlink(missing_ok=True)
        fd, self._size = _open(self._path)
        os.close(self._fd)
        self._fd = fd

    def _aside(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


def _open(path: Path) -> tuple[int, int]:
    """A file to append to and its size, after its last whole line; ValueError where others wrote what is after it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE)
    size = os.fstat(fd).st_size
    end = _after_last_line(fd, size)
    if end != size:
        if os.pread(fd, len(BEGINS), end) != BEGINS[: size - end]:
            os.close(fd)
            raise ValueError
        os.ftruncate(fd, end)
    return fd, end


def _after_last_line(fd: int, size: int) -> int:
    end = size
    while end:
        begin = max(0, end - BLOCK)
        if (newline := os.pread(fd, end - begin, begin).rfind(b"\n")) >= 0:
            return begin + newline + 1
        end = begin
    return 0
