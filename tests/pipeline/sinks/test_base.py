import threading
import time
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
from structlog.testing import capture_logs

from pipeline.settings.schema import Config, PublishSettings, SinkSettings, StreamSettings
from pipeline.sinks import fan_out
from pipeline.sinks.base import SinkCounts, SinkThread
from pipeline.sinks.fan_out import Sinks
from pipeline.wire.messages import HealthMessage, Message
from tests.waiting import until

ROOM = 10


def message(number: int) -> HealthMessage:
    return HealthMessage(stream="door", at="", state="up", cause=str(number))


class Kept:
    """A sink that keeps what it gets; and where it is told to, does something else with it first."""

    def __init__(self, before: Callable[[], object] = lambda: None) -> None:
        self.heard: list[str] = []
        self.closed_in = ""
        self._before = before

    def send(self, message: Message) -> None:
        self._before()
        assert isinstance(message, HealthMessage)
        self.heard.append(message.cause)

    def close(self) -> None:
        self.closed_in = threading.current_thread().name


def fail() -> None:
    raise ZeroDivisionError


def leave() -> None:
    raise SystemExit


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a sink waits for; opened at the end, so that no thread stays."""
    gate = threading.Event()
    yield gate
    gate.set()


def test_messages_come_in_order_and_the_sink_is_closed_in_its_thread() -> None:
    sink = Kept()
    thread = SinkThread("kept", sink, 1000)
    for number in range(500):
        thread.send(message(number))
    thread.finish()
    assert thread.join(time.monotonic() + 10.0)
    assert sink.heard == [str(number) for number in range(500)]
    assert sink.closed_in == "sink kept"
    assert (thread.counts.sent, thread.counts.lost) == (500, {})


def test_a_stream_that_begins_is_told_between_the_messages_before_and_after_and_is_none_itself(
    gate: threading.Event,
) -> None:
    class Following(Kept):
        def begin(self, stream: StreamSettings) -> None:
            self.heard.append(stream.name)
            if stream.name == "broken":
                raise OSError("the disk is full")

    sink = Following(gate.wait)
    threads = [SinkThread("following", sink, 100), SinkThread("other", Kept(), 100)]
    for thread in threads:
        thread.send(message(0))
        thread.begin(StreamSettings(name="yard", source="0"))
        thread.send(message(1))
        thread.begin(StreamSettings(name="broken", source="0"))
        thread.send(message(2))
    gate.set()
    for thread in threads:
        thread.finish()
        assert thread.join(time.monotonic() + 10.0)
        assert (thread.counts.sent, thread.counts.lost, thread.counts.waiting) == (3, {}, 0)
    assert sink.heard == ["0", "yard", "1", "broken", "2"]


def test_a_sink_that_blocks_for_ever_loses_what_finds_no_room_and_nobody_waits(gate: threading.Event) -> None:
    sink = Kept(gate.wait)
    thread = SinkThread("stuck", sink, ROOM)
    began_s = time.monotonic()
    with capture_logs() as logs:
        for number in range(100):
            thread.send(message(number))
        assert thread.counts.lost == {"full": 100 - ROOM}
        assert thread.counts.waiting == ROOM
        thread.finish()
        assert not thread.join(time.monotonic() + 0.1)
    assert time.monotonic() - began_s < 5.0
    assert (thread.counts.sent, thread.counts.lost) == (0, {"full": 100 - ROOM, "shutdown": ROOM})
    assert thread.counts.waiting == 0
    assert [line["event"] for line in logs] == ["sink loses messages", "sink is not done and is left behind"]
    thread.send(message(100))
    assert thread.counts.lost["shutdown"] == ROOM + 1


def test_what_a_sink_does_once_it_was_left_behind_is_not_counted_twice(gate: threading.Event) -> None:
    sink = Kept(gate.wait)
    thread = SinkThread("stuck", sink, ROOM)
    thread.send(message(0))
    thread.finish()
    assert not thread.join(time.monotonic() + 0.05)
    gate.set()
    until(lambda: sink.closed_in != "")
    assert (thread.counts.sent, thread.counts.lost) == (0, {"shutdown": 1})


def test_a_sink_that_raises_each_time_is_logged_once_and_asked_again() -> None:
    thread = SinkThread("broken", Kept(fail), 100)
    with capture_logs() as logs:
        for number in range(50):
            thread.send(message(number))
        thread.finish()
        assert thread.join(time.monotonic() + 10.0)
    assert (thread.counts.sent, thread.counts.lost) == (0, {"failed": 50})
    assert [(line["event"], line["cause"]) for line in logs] == [("sink failed", "ZeroDivisionError: ")]


def test_a_sink_that_fails_for_a_while_goes_on() -> None:
    left = [3]

    def fail_at_first() -> None:
        if left[0]:
            left[0] -= 1
            raise OSError("the disk is full")

    sink = Kept(fail_at_first)
    thread = SinkThread("full", sink, 100)
    for number in range(5):
        thread.send(message(number))
    thread.finish()
    assert thread.join(time.monotonic() + 10.0)
    assert sink.heard == ["3", "4"]
    assert (thread.counts.sent, thread.counts.lost) == (2, {"failed": 3})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # that is how it dies
def test_a_dead_sink_s_messages_are_counted() -> None:
    thread = SinkThread("dead", Kept(leave), 100)
    thread.send(message(0))
    until(lambda: thread.counts.lost == {"dead": 1})
    thread.send(message(1))
    assert (thread.counts.sent, thread.counts.lost) == (0, {"dead": 2})
    thread.finish()
    assert thread.join(time.monotonic() + 10.0)


def test_a_sink_is_looked_after_though_nothing_comes() -> None:
    class Looked(Kept):
        look_s = 0.01
        looks = 0

        def look(self) -> None:
            self.looks += 1

    sink = Looked()
    thread = SinkThread("looked", sink, ROOM)
    until(lambda: sink.looks > 3)
    thread.finish()
    assert thread.join(time.monotonic() + 10.0)


def test_sinks_do_not_hold_each_other_up(monkeypatch: pytest.MonkeyPatch, gate: threading.Event) -> None:
    good, slow = Kept(), Kept(lambda: time.sleep(0.02))
    made = {"stuck": Kept(gate.wait), "broken": Kept(fail), "slow": slow, "good": good}
    monkeypatch.setattr(fan_out, "load_from", lambda group, kind: lambda options: made[kind])
    monkeypatch.setattr(fan_out, "CLOSE_S", 0.3)
    config = Config(
        streams=(StreamSettings(name="door", source="0"),),
        publish=PublishSettings(address="tcp://127.0.0.1:0"),
        sinks=tuple(SinkSettings(kind=kind, queue=1000 if kind == "good" else ROOM) for kind in made),
    )
    began_s = time.monotonic()
    with Sinks(config) as sinks:
        for number in range(200):
            sinks.send(message(number))
        assert time.monotonic() - began_s < 3.0
        until(lambda: len(good.heard) == 200)
        until(lambda: slow.heard[-1:] != [])
        sinks.send(message(200))
        until(lambda: len(good.heard) == 201)
    assert time.monotonic() - began_s < 8.0
    counts = sinks.counts
    assert good.heard == [str(number) for number in range(201)]
    assert (counts["publish"].sent, counts["publish"].lost) == (201, {})
    for name in ("stuck", "broken", "slow"):
        assert counts[name].sent + sum(counts[name].lost.values()) == 201
    assert counts["stuck"].lost == {"full": 201 - ROOM, "shutdown": ROOM}
    assert counts["broken"].sent == 0 and counts["broken"].lost["failed"] > 0
    assert counts["slow"].lost["full"] > 0


def test_what_a_sink_lost_is_told_with_the_health_of_streams(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    told: list[dict[str, dict[str, int]]] = []

    class Told(Kept):
        def send(self, message: Message) -> None:
            assert isinstance(message, HealthMessage)
            told.append(message.sinks)

    made = {"stuck": Kept(gate.wait), "told": Told()}
    monkeypatch.setattr(fan_out, "load_from", lambda group, kind: lambda options: made[kind])
    monkeypatch.setattr(fan_out, "CLOSE_S", 0.1)
    config = Config(
        streams=(StreamSettings(name="door", source="0"),),
        publish=PublishSettings(address="tcp://127.0.0.1:0"),
        sinks=(SinkSettings(kind="stuck", name="archive", queue=1), SinkSettings(kind="told")),
    )
    with Sinks(config) as sinks:
        for number in range(3):
            sinks.send(message(number))
        until(lambda: len(told) == 3)
    assert told == [{}, {}, {"archive": {"full": 1}}]


def test_what_a_sink_loses_after_taking_it_is_counted_by_its_own_causes_and_not_as_sent() -> None:
    class Spools(Kept):
        lost: ClassVar[dict[str, int]] = {"refused": 2, "full": 1}

    thread = SinkThread("spools", Spools(), 10)
    for number in range(5):
        thread.send(message(number))
    thread.finish()
    assert thread.join(time.monotonic() + 30)
    assert thread.counts == SinkCounts(2, {"refused": 2, "full": 1})
