import errno
import os
from pathlib import Path

import pytest

from engines.errors import ConfigError
from pipeline.sinks.jsonl import JsonLinesSettings, JsonLinesSink
from pipeline.wire.messages import EventMessage, HealthMessage, Message, decode

EVENT = EventMessage(stream="door", seq=1, captured_at="", event="new", kind="scene", label="street")


def health(cause: str) -> HealthMessage:
    return HealthMessage(stream="door", at="", state="up", cause=cause)


def lines(path: Path) -> list[Message]:
    return [decode(line) for line in path.read_bytes().splitlines()]


def test_each_message_is_a_line_at_once(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    sink = JsonLinesSink(JsonLinesSettings(path=str(path)))
    sent = [health("a\nb"), EVENT, health("é")]
    for number, message in enumerate(sent):
        sink.send(message)
        assert lines(path) == sent[: number + 1]
    sink.close()


def test_only_the_types_that_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    sink = JsonLinesSink(JsonLinesSettings(path=str(path), types=("event",)))
    for message in (health("a"), EVENT):
        sink.send(message)
    sink.close()
    assert lines(path) == [EVENT]


@pytest.mark.parametrize("files", [1, 2, 3])
def test_the_disk_holds_no_more_than_was_allowed(tmp_path: Path, files: int) -> None:
    path = tmp_path / "run.jsonl"
    sink = JsonLinesSink(JsonLinesSettings(path=str(path), max_mb=0.001, files=files))
    sent = [health(str(number)) for number in range(100)]
    for message in sent:
        sink.send(message)
    sink.close()
    found = sorted(tmp_path.iterdir())
    assert len(found) == files
    assert all(file.stat().st_size <= 1000 for file in found)
    kept = [line for file in reversed(found) for line in lines(file)]  # PATH comes before PATH.1 by name
    assert kept == sent[-len(kept) :]
    assert len(kept) > 5 * files - 5


def test_a_message_that_is_larger_than_a_file_has_one_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    sink = JsonLinesSink(JsonLinesSettings(path=str(path), max_mb=0.001, files=3))
    for message in (health("a"), health("x" * 2000), health("b")):
        sink.send(message)
    sink.close()
    assert [len(lines(file)) for file in sorted(tmp_path.iterdir())] == [1, 1, 1]


def test_a_run_goes_on_after_the_last_whole_line_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    for torn in (b"", b'{"type":"hea', b'{"ty', b'{"type":"health","cause":"' + b"x" * 200_000):
        sink = JsonLinesSink(JsonLinesSettings(path=str(path)))
        sink.send(health("a"))
        sink.close()
        with path.open("ab") as file:
            file.write(torn)
    sink = JsonLinesSink(JsonLinesSettings(path=str(path)))
    sink.close()
    assert lines(path) == [health("a")] * 4


def test_a_line_that_a_full_disk_cut_short_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / "run.jsonl", os.write
    sink = JsonLinesSink(JsonLinesSettings(path=str(path)))
    sink.send(health("a"))

    def full(fd: int, body: bytes) -> int:
        if len(body) > 60:
            return write(fd, body[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space left"):
            sink.send(health("x"))
    sink.send(health("b"))
    sink.close()
    assert lines(path) == [health("a"), health("b")]


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(b"\xff\xd8\xff no line at all")
    for path in (tmp_path / "none" / "run.jsonl", tmp_path):
        with pytest.raises(ConfigError, match=r"path is '.*', but must be a file that can be written"):
            JsonLinesSink(JsonLinesSettings(path=str(path)))
    with pytest.raises(ConfigError, match="is no file of messages"):
        JsonLinesSink(JsonLinesSettings(path=str(tmp_path / "picture.jpg")))
    assert (tmp_path / "picture.jpg").read_bytes() == b"\xff\xd8\xff no line at all"
