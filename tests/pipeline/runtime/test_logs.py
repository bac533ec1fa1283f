"""Log lines, and what becomes of one that cannot be written."""

import errno
import io
import os
import sys
from collections.abc import Iterator

import pytest
import structlog

from pipeline.runtime.logs import LogSettings, configure_logging
from pipeline.sinks.base import SinkThread
from pipeline.wire.messages import HealthMessage, Message
from tests.waiting import until


@pytest.fixture(autouse=True)
def configured() -> Iterator[None]:
    configure_logging(LogSettings())
    yield
    structlog.reset_defaults()


class FullFile(io.StringIO):
    """A file on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Failing:
    """A sink that raises, as often as it is asked."""

    def send(self, message: Message) -> None:
        raise OSError("its disk is full")

    def close(self) -> None:
        pass


def test_a_log_on_a_full_disk_costs_lines_and_nobody_who_writes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    message = HealthMessage(stream="door", at="", state="up", cause="", captured=0, published=0)
    monkeypatch.setattr(sys, "stderr", FullFile())
    thread = SinkThread("made", Failing(), 10)
    for _ in range(3):
        thread.send(message)
    until(lambda: thread.counts.lost == {"failed": 3})
    thread.finish()


def test_lines_go_to_whoever_is_stderr_now(capsys: pytest.CaptureFixture[str]) -> None:
    structlog.get_logger().warning("said", stream="door")
    assert "said" in capsys.readouterr().err
