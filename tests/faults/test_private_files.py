"""What shows people, or what they did, can be read by its owner alone, whatever the umask."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines.files import write_private
from pipeline.gallery.gallery import Gallery
from pipeline.settings.schema import RecordSettings
from pipeline.sinks.jsonl import JsonLinesSettings, JsonLinesSink
from pipeline.sinks.segments import SegmentFolder
from pipeline.store.events import EventStore


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def test_no_other_user_can_read_what_a_run_writes(tmp_path: Path) -> None:
    SegmentFolder(RecordSettings(directory=str(tmp_path / "recording"))).new("door")
    JsonLinesSink(JsonLinesSettings(path=str(tmp_path / "messages.jsonl"))).close()
    EventStore(tmp_path / "events", create=True).file.close()
    Gallery(tmp_path / "people.sqlite", "f" * 64).close()
    write_private(tmp_path / "summary.json", b"{}")
    found = list(tmp_path.rglob("*"))
    assert len(found) >= 7
    for path in found:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
