"""The files of a recording: how they are named, how long they are kept, and how full the disk may get."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from av import codecs_available

from engines.errors import ConfigError
from engines.files import PRIVATE, PRIVATE_FOLDER
from pipeline.settings.schema import RecordSettings

GB: Final = 1_000_000_000  # bytes
DAY_S: Final = 86_400.0
ENCODER: Final = "libx264"
RESERVE: Final = 16_000_000  # bytes above the floor for each video: what it may write between two looks at the disk
MAX_STREAM: Final = 180  # bytes of a file name, of 255

_NAME: Final = re.compile(r"(\d{8}T\d{6}\.\d{3})Z_(.+)\.mp4")

FreeBytes = Callable[[Path], int]
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Segment:
    """A file of a recording."""

    path: Path
    started_s: float  # Unix time
    size: int  # bytes


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, for this user."""
    return shutil.disk_usage(folder).free


def segment_name(stream: str, started_ms: int) -> str:
    """The file name of a segment; names sort by time, and no stream's name makes a path of it.

    >>> segment_name("door", 1795425247120)
    '20261123T091407.120Z_door.mp4'
    >>> segment_name("../etc", 0)
    '19700101T000000.000Z_..%2Fetc.mp4'
    """
    seconds, milliseconds = divmod(started_ms, 1000)
    at = datetime.fromtimestamp(seconds, UTC)
    name = quote(stream, safe="", errors="surrogatepass")
    if len(name) > MAX_STREAM:
        name = f"{name[:MAX_STREAM]}~{sha256(name.encode()).hexdigest()[:8]}"
    return f"{at:%Y%m%dT%H%M%S}.{milliseconds:03d}Z_{name}.mp4"


def segments(folder: Path) -> list[Segment]:
    """The segments in a folder, the oldest first; files of other names are nobody's business."""
    found = []
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        with suppress(FileNotFoundError, ValueError):  # deleted meanwhile; or digits that are no date
            started = datetime.strptime(match[1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
            found.append(Segment(path, started.timestamp(), path.stat().st_size))
    return sorted(found, key=lambda segment: segment.path.name)


class SegmentFolder:
    """The folder of a recording: gives out files, deletes old ones, and says when the disk is too full.

    Args:
        settings: with a directory.
        clock: Unix time in seconds.
        free: the free bytes of a folder's disk.

    Raises:
        ConfigError: the directory cannot be made.
    """

    def __init__(self, settings: RecordSettings, clock: Clock = time.time, free: FreeBytes = free_bytes) -> None:
        assert settings.directory is not None
        self.path = Path(settings.directory)
        self.floor = round(settings.min_free_gb * GB)
        self._settings, self._clock, self._free = settings, clock, free
        self._open: set[Path] = set()
        self._last_ms = 0
        try:
            self.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"record.directory: cannot make {self.path}: {error.strerror}") from error

    def check(self, videos: int = 1) -> None:
        """Delete what is past its time, and refuse to begin where so many videos could not be recorded.

        Raises:
            ConfigError: no file can be written, less is free than they need above the floor, or nothing encodes them.
        """
        if ENCODER not in codecs_available:
            raise ConfigError(
                f"record.directory is {str(self.path)!r}, but this build of PyAV has no encoder {ENCODER}: install its "
                "wheel (`pip install av`), or leave it out"
            )
        try:
            with tempfile.TemporaryFile(dir=self.path):
                pass
            self.tidy()
            free = self._free(self.path)
        except OSError as error:
            raise ConfigError(
                f"record.directory is {str(self.path)!r}, in which no file can be written: {error.strerror}"
            ) from error
        if free < self._needed(videos):
            counted = "one video" if videos == 1 else f"{videos} videos"
            raise ConfigError(
                f"record.min_free_gb is {self.floor / GB:g}, and with {counted} {self._needed(videos) / GB:.2f} GB "
                f"must be free, but only {free / GB:.2f} GB are in {str(self.path)!r}; free some, or name another "
                "directory or a lower floor"
            )

    def new(self, stream: str) -> Path:
        """Make the empty file of a stream's next segment; it counts as being written until :meth:`done`.

        Raises:
            OSError: it cannot be made.
        """
        while True:
            # Never before the one before, although a clock may be set back: names sort as they were written.
            self._last_ms = max(self._last_ms + 1, round(self._clock() * 1000))
            path = self.path / segment_name(stream, self._last_ms)
            with suppress(FileExistsError):  # of another run: the next millisecond is free
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
                self._open.add(path)
                return path

    def done(self, path: Path) -> None:
        """A segment is not written any more: from now on it may be deleted."""
        self._open.discard(path)

    def tidy(self) -> list[Path]:
        """Delete the segments that are too old, and the oldest of those that are too many.

        Those that are being written stay. Returns those that could not be deleted.
        """
        found = segments(self.path)
        excess = sum(segment.size for segment in found) - round(self._settings.keep_gb * GB)
        oldest_s = self._clock() - self._settings.keep_days * DAY_S
        stuck = []
        for segment in found:
            if segment.path not in self._open and (segment.started_s < oldest_s or excess > 0):
                try:
                    segment.path.unlink(missing_ok=True)
                    excess -= segment.size
                except OSError:
                    stuck.append(segment.path)
        return stuck

    def has_room(self, videos: int) -> bool:
        """Whether so many videos can be written without going below the floor."""
        return self._free(self.path) >= self._needed(videos)

    def _needed(self, videos: int) -> int:
        return self.floor + RESERVE * videos
