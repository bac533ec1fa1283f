"""Where log lines go, in this process and in those that it starts."""

import logging
import sys
from contextlib import suppress
from dataclasses import dataclass

import structlog


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How log lines are written."""

    level: str = "info"  # the least severe that is shown
    as_json: bool = False


class LineLogger:
    """Writes lines to stderr. One that cannot be written is lost: its disk is full perhaps, and who logs must go on."""

    def __init__(self) -> None:
        self._logger = structlog.PrintLogger(sys.stderr)

    def msg(self, message: str) -> None:
        """Write a line."""
        with suppress(OSError, ValueError):
            self._logger.msg(message)

    log = debug = info = warn = warning = err = error = critical = fatal = failure = exception = msg


_settings: LogSettings | None = None


def log_settings() -> LogSettings | None:
    """Return what :func:`configure_logging` last got here, for child processes; None before its first call."""
    return _settings


def configure_logging(settings: LogSettings) -> None:
    """Send log lines to stderr, where they do not mix with a verb's output."""
    global _settings  # structlog's own configuration is the process', too
    _settings = settings
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
        # Looked up each time and not kept: whoever replaces sys.stderr gets the lines.
        logger_factory=lambda *_: LineLogger(),
        cache_logger_on_first_use=False,
    )
