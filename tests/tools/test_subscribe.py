"""``trunkline subscribe`` against a real publisher."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from typer.testing import CliRunner

from pipeline.settings.schema import PublishSettings
from pipeline.sinks.zmq import Publisher
from pipeline.wire.messages import (
    EventMessage,
    FaceMessage,
    FrameMessage,
    HealthMessage,
    IdentityMessage,
    Message,
    ObjectMessage,
    SceneMessage,
    TimingsMessage,
    decode,
)
from tools.main import app
from tools.subscribe import line

AT = "2026-11-23T09:14:07.120Z"
BOX = (0.0, 0.0, 1.0, 1.0)
UP = HealthMessage(stream="yard", at=AT, state="up", cause="opened")
EMPTY = FrameMessage(
    stream="door",
    seq=3,
    captured_at=AT,
    size=(64, 48),
    objects=(),
    faces=(),
    scene=(),
    timings_ms=TimingsMessage(1.0, 2.0, 3.0, 6.0),
    dropped={},
)
FULL = FrameMessage(
    stream="door",
    seq=4,
    captured_at=AT,
    size=(64, 48),
    objects=(ObjectMessage(17, "person", 0.914, BOX), ObjectMessage(18, "cup", 0.5, BOX)),
    faces=(
        FaceMessage(4, 17, 0.98, BOX, (), IdentityMessage("Ada", 0.71)),
        FaceMessage(5, None, 0.9, BOX, (), None),
    ),
    scene=(SceneMessage("street", 0.83), SceneMessage("square", 0.11)),
    timings_ms=TimingsMessage(1.0, 2.0, 3.0, 6.0),
    dropped={},
)
runner = CliRunner()


@contextmanager
def published(*messages: Message) -> Iterator[str]:
    """Address of a publisher that sends these messages over and over."""
    stop = threading.Event()
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:

        def send() -> None:
            while not stop.wait(0.01):
                for message in messages:
                    publisher.send(message)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield publisher.address
        finally:
            stop.set()
            thread.join()


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (EMPTY, "09:14:07.120 door #3  nothing  [6.0 ms]"),
        (
            FULL,
            "09:14:07.120 door #4  person 17 (0.91), cup 18 (0.50); face 4: Ada (0.71), face 5: unknown; "
            "street (0.83)  [6.0 ms]",
        ),
        (UP, "09:14:07.120 yard up: opened"),
        (
            EventMessage(
                stream="door",
                seq=9,
                captured_at=AT,
                event="changed",
                kind="object",
                track=2,
                label="cup",
                previous="dog",
            ),
            "09:14:07.120 door #9  object 2 changed: cup (was dog)",
        ),
        (
            EventMessage(stream="door", seq=9, captured_at=AT, event="ended", kind="scene"),
            "09:14:07.120 door #9  scene ended",
        ),
        (
            EventMessage(
                stream="door",
                seq=9,
                captured_at=AT,
                event="cross",
                kind="line",
                track=2,
                label="dog",
                name="gate",
                direction="a_to_b",
            ),
            "09:14:07.120 door #9  line gate cross a_to_b: dog 2",
        ),
        (
            EventMessage(
                stream="door",
                seq=9,
                captured_at=AT,
                event="leave",
                kind="zone",
                track=2,
                label="dog",
                name="yard",
                duration_s=2.5,
            ),
            "09:14:07.120 door #9  zone yard leave: dog 2 after 2.5 s",
        ),
    ],
)
def test_a_message_as_a_line(message: Message, shown: str) -> None:
    assert line(message) == shown


def test_count_ends_it() -> None:
    with published(FULL) as address:
        result = runner.invoke(app, ["subscribe", address, "--count", "2", "--timeout", "5"])
    assert (result.exit_code, result.stdout) == (0, f"{line(FULL)}\n" * 2)


def test_json_lines_are_the_messages() -> None:
    with published(FULL, EMPTY) as address:
        result = runner.invoke(app, ["subscribe", address, "--json", "--count", "4", "--timeout", "5"])
    messages = [decode(row.encode()) for row in result.stdout.splitlines()]
    assert len(messages) == 4
    assert FULL in messages
    assert EMPTY in messages


def test_stream_and_type_select() -> None:
    selection = ["--stream", "yard", "--type", "health", "--type", "event", "--count", "3", "--timeout", "5"]
    with published(FULL, UP) as address:
        result = runner.invoke(app, ["subscribe", address, *selection])
    assert (result.exit_code, result.stdout) == (0, f"{line(UP)}\n" * 3)


def test_too_few_in_time_is_status_1() -> None:
    with published(UP) as address:
        result = runner.invoke(app, ["subscribe", address, "--stream", "door", "--count", "1", "--timeout", "0.2"])
    assert (result.exit_code, result.stdout) == (1, "")


def test_a_timeout_without_a_count_is_no_failure() -> None:
    with published(UP) as address:
        result = runner.invoke(app, ["subscribe", address, "--timeout", "0.5"])
    assert result.exit_code == 0
    assert line(UP) in result.stdout


@pytest.mark.parametrize("arguments", [["door"], ["tcp://127.0.0.1:5555", "--server-key", "none.key"]])
def test_what_cannot_be_connected_to_is_one_sentence(arguments: list[str]) -> None:
    result = runner.invoke(app, ["subscribe", *arguments])
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: ")
