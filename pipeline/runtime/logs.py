"""Where log lines go, in this process and in those that it starts."""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

MAX_BYTES: Final = 2**18  # of a log file; the one before it stays beside it
BEFORE: Final = ".before"
_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How log lines are written."""

    level: str = "info"  # the least severe that is shown
    as_json: bool = False
    file: Path | None = None  # where they are kept, too: the last of them


class LogWriter:
    """Writes lines to stderr, looked up each time in case somebody replaces it, and into a file that stays small.

    Several processes may write to one file. A line that cannot be written to one of both is lost there: its disk is
    full perhaps, and who logs must go on.

    Args:
        file: None: none.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def write(self, line: str) -> None:
        """Write a line."""
        with suppress(OSError, ValueError):
            sys.stderr.write(line)
        if self._file is not None:
            with suppress(OSError):
                _append(self._file, _COLOURS.sub("", line))

    def flush(self) -> None:
        """Let it be seen."""
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def _append(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8", errors="replace") as opened:
        opened.write(line)
        full = opened.tell() > MAX_BYTES
    if full:
        os.replace(file, file.with_name(file.name + BEFORE))


def last_lines(file: Path, count: int) -> list[str]:
    """Return the last lines of a log file that is written by :func:`configure_logging`, or of any other."""
    lines: list[str] = []
    for part in _parts(file):
        lines = part.splitlines()[len(lines) - count :] + lines if len(lines) < count else lines
    return lines


def _parts(file: Path) -> Iterator[str]:
    """The ends of the file and of the one before it."""
    for path in (file, file.with_name(file.name + BEFORE)):
        with suppress(OSError), path.open("rb") as opened:
            begin = max(0, path.stat().st_size - MAX_BYTES)
            opened.seek(begin)
            text = opened.read(2 * MAX_BYTES).decode(errors="replace")
            yield text.partition("\n")[2] if begin else text


_settings: LogSettings | None = None


def log_settings() -> LogSettings | None:
    """Return what :func:`configure_logging` last got here, for child processes; None before its first call."""
    return _settings


def configure_logging(settings: LogSettings) -> None:
    """Send log lines to stderr, where they do not mix with a verb's output."""
    global _settings  # structlog's own configuration is the process', too
    _settings = settings
    writer = LogWriter(settings.file)  # one of them: structlog keeps a lock for each
    # Tracebacks without local variables: those hold source addresses with their passwords.
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.as_json
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            *last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[settings.level.upper()]),
        logger_factory=lambda *_: structlog.WriteLogger(writer),  # type: ignore[arg-type]  # it writes, and no more
        cache_logger_on_first_use=False,
    )
