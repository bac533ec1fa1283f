"""Finished frames as messages, and the socket they leave by."""

import contextlib
import dataclasses
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zmq.auth
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError
from engines.spec import EntrySpec, ModelSpec, NetworkSettings
from pipeline.events.log import EventLog
from pipeline.frames.counters import FrameCounters, FrameCounts
from pipeline.frames.types import Identity, Result, Timestamps
from pipeline.runtime.event_publisher import DropsBefore, EventPublisher, publish, settle
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.settings.schema import PublishSettings
from pipeline.sinks.zmq import Publisher, check_address
from pipeline.wire.build import to_message
from pipeline.wire.client import Subscriber
from pipeline.wire.curve import LONGEST_HEARD
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage, IdentityMessage, decode, encode
from tests.pipeline.made_results import OBJECTS, SCENES, make_result

ENTRY = EntrySpec("x.onnx", "0", 32, 32, {})
SPEC = ModelSpec(1, "n", ENTRY, ENTRY, OBJECTS, (*SCENES, "room", "beach"), NetworkSettings())
GREY = np.full((48, 64, 3), 128, dtype=np.uint8)
LOOPBACK = PublishSettings(address="tcp://127.0.0.1:0")
UP = HealthMessage(stream="door", at="2026-11-23T09:14:07.120Z", state="up", cause="opened")


def with_scene(probabilities: list[float], label: int) -> Result:
    result = make_result(GREY, scene_label=label)
    return dataclasses.replace(result, scene=np.array(probabilities, dtype=np.float32))


def test_an_empty_frame_has_empty_lists() -> None:
    message = to_message(make_result(GREY, seq=7), SPEC, {"stale": 2})
    assert (message.stream, message.seq, message.size, message.dropped) == ("door", 7, (64, 48), {"stale": 2})
    assert (message.objects, message.faces, message.scene) == ((), (), ())


def test_objects_and_faces_are_rounded_and_named() -> None:
    ada = Identity("Ada", 0.71236)
    result = make_result(
        GREY, objects=[(0.04, 1.06, 10.26, 20.0)], faces=[(2, 2, 8, 8), (20, 2, 28, 8)], identities=[ada, None]
    )
    message = to_message(result, SPEC, {})
    assert [(one.track, one.label, one.score, one.box) for one in message.objects] == [
        (1, "person", 0.9, (0.0, 1.1, 10.3, 20.0))
    ]
    assert [face.identity for face in message.faces] == [IdentityMessage("Ada", 0.712), None]
    assert message.faces[0].landmarks == ((3.8, 4.4), (6.2, 4.4), (5.0, 5.6), (4.1, 6.8), (5.9, 6.8))
    assert [face.object for face in message.faces] == [None, None]


def test_the_smoothed_label_is_sent_and_not_the_detection_s() -> None:
    result = dataclasses.replace(
        make_result(GREY, objects=[(0, 0, 4, 4)]), labels=np.array([1]), label_scores=np.array([0.4321], np.float32)
    )
    (one,) = to_message(result, SPEC, {}).objects
    assert (one.label, one.score) == ("cat", 0.432)


def test_a_face_has_the_landmarks_of_its_detection_and_the_track_of_its_person() -> None:
    result = make_result(GREY, faces=[(0, 0, 10, 10), (20, 20, 30, 30)])
    rows = dataclasses.replace(result.faces, rows=np.array([1, 0]))
    faces = to_message(dataclasses.replace(result, faces=rows, face_objects=np.array([17, 0])), SPEC, {}).faces
    assert [face.landmarks[0] for face in faces] == [(23.0, 24.0), (3.0, 4.0)]
    assert [face.object for face in faces] == [17, None]


@pytest.mark.parametrize(
    ("probabilities", "label", "shown"),
    [
        pytest.param([0.9, 0.1, 0.0, 0.0], -1, [], id="no smoothed scene yet"),
        pytest.param([0.9, 0.05, 0.05, 0.0], 0, ["street"], id="the others are unlikely"),
        pytest.param(
            [0.3, 0.5, 0.2, 0.0], 0, ["street", "cat", "room"], id="the smoothed one first, not the likeliest"
        ),
        pytest.param([0.25, 0.25, 0.25, 0.25], 3, ["beach", "street", "cat"], id="three at the most"),
        pytest.param([0.95, 0.05, 0.0, 0.0], 1, ["cat", "street"], id="the smoothed one is unlikely by now"),
    ],
)
def test_which_scenes_are_shown(probabilities: list[float], label: int, shown: list[str]) -> None:
    assert [scene.label for scene in to_message(with_scene(probabilities, label), SPEC, {}).scene] == shown


def test_timings_follow_the_stamps_and_add_up() -> None:
    stamps = Timestamps(1_000_000, 3_000_000, 5_000_000, 11_000_000)
    result = dataclasses.replace(make_result(GREY), timestamps=stamps)
    timings = to_message(result, SPEC, {}).timings_ms
    assert (timings.queue, timings.infer, timings.post, timings.total) == (5.0, 6.0, 1.0, 12.0)


@given(st.lists(st.tuples(*[st.floats(0, 4000, width=32)] * 4), max_size=5))
def test_a_message_made_of_arrays_comes_back_from_the_wire(boxes: list[Any]) -> None:
    message = to_message(make_result(GREY, objects=boxes, faces=boxes), SPEC, {})
    assert decode(encode(message, "json")) == decode(encode(message, "msgpack")) == message


def test_drops_that_happen_while_a_frame_is_in_the_network_are_told_with_a_later_one() -> None:
    drops_before = DropsBefore()
    assert drops_before("door", 0, FrameCounts(4, 0, {"stale": 2})) == {}
    assert drops_before("door", 3, FrameCounts(6, 1, {"stale": 3})) == {"stale": 2}
    assert drops_before("door", 5, FrameCounts(6, 2, {"stale": 3})) == {"stale": 3}


def test_drops_of_one_stream_are_not_another_s() -> None:
    drops_before = DropsBefore()
    assert drops_before("door", 1, FrameCounts(2, 0, {"stale": 1})) == {"stale": 1}
    assert drops_before("yard", 0, FrameCounts(1, 0, {})) == {}


@given(st.lists(st.sampled_from(["published", "stale", "crash"]), max_size=40), st.integers(0, 5))
def test_what_is_told_numbers_the_messages_without_gaps(fates: list[str], ahead: int) -> None:
    drops_before, numbers = DropsBefore(), []
    for seq, fate in enumerate(fates):
        if fate == "published":
            known = [each for each in fates[: seq + ahead] if each != "published"]
            account = FrameCounts(len(fates), len(numbers), {cause: known.count(cause) for cause in set(known)})
            numbers.append(seq - sum(drops_before("door", seq, account).values()))
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    "address",
    ["tcp://127.0.0.1:5555", "tcp://127.8.0.1:*", "tcp://[::1]:5555", "tcp://localhost:0", "ipc:///tmp/trunkline"],
)
def test_addresses_that_stay_on_this_host(address: str) -> None:
    check_address(PublishSettings(address=address))


@pytest.mark.parametrize(
    "address", ["tcp://*:5555", "tcp://0.0.0.0:5555", "tcp://192.168.1.2:5555", "tcp://[::]:5555", "tcp://eth0:5555"]
)
def test_addresses_that_leave_this_host_need_keys(address: str) -> None:
    with pytest.raises(
        ConfigError,
        match=r"publish.address is .* needs publish.curve_secret_file and publish.clients, .* or publish.insecure",
    ):
        Publisher(PublishSettings(address=address))
    check_address(PublishSettings(address=address, insecure=True))
    keys = {"curve_secret_file": "keys/server.key_secret", "clients": "keys/clients"}
    check_address(PublishSettings(address=address, **keys))
    for alone in keys:
        with pytest.raises(ConfigError, match=r"needs publish\.curve_secret_file"):
            check_address(PublishSettings(address=address, **{alone: keys[alone]}))


@pytest.mark.parametrize(
    "address", ["", "5555", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "tcp://:5555", "http://127.0.0.1:80", "ipc://"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigError, match="must be tcp://HOST:PORT or ipc://PATH"):
        Publisher(PublishSettings(address=address))


def test_an_address_of_another_host_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"publish.address is 'tcp://192.0.2.1:0', which cannot be used"):
        Publisher(PublishSettings(address="tcp://192.0.2.1:0", insecure=True))


def test_an_address_that_is_taken_is_refused() -> None:
    with Publisher(LOOPBACK) as first, pytest.raises(ConfigError, match="Address already in use"):
        Publisher(PublishSettings(address=first.address))


def test_port_0_becomes_a_real_one_and_closing_twice_is_harmless() -> None:
    publisher = Publisher(LOOPBACK)
    assert int(publisher.address.removeprefix("tcp://127.0.0.1:")) > 0
    publisher.close()
    publisher.close()


def test_key_files_that_cannot_be_used(tmp_path: Path) -> None:
    public, _ = zmq.auth.create_certificates(tmp_path, "server")
    (tmp_path / "notes.txt").write_text("no key\n")
    for file in (public, str(tmp_path / "notes.txt"), str(tmp_path / "none")):
        with pytest.raises(ConfigError, match=r"publish.curve_secret_file is .*, which cannot be used"):
            Publisher(PublishSettings(address="tcp://127.0.0.1:0", curve_secret_file=file))


@pytest.fixture
def joined() -> Iterator[tuple[Publisher, Subscriber]]:
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address, timeout_s=5.0) as subscriber:
        yield publisher, meet(publisher, subscriber)


def meet(publisher: Publisher, subscriber: Subscriber) -> Subscriber:
    """Send until the subscription has arrived, and take what was sent meanwhile."""
    end = time.monotonic() + 5.0
    while subscriber.receive(0.02) is None:
        assert time.monotonic() < end
        publisher.send(UP)
    while subscriber.receive(0.05) is not None:
        pass
    return subscriber


def test_the_stage_sends_and_passes_on(joined: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = joined
    counters = FrameCounters()
    results = [make_result(GREY, seq=seq) for seq in (0, 2)]
    for _ in range(3):
        counters.captured("door")
    counters.dropped("door", "stale")
    passed = []
    for result in publish(results, EventPublisher(publisher, counters, SPEC)):
        counters.published("door")
        passed.append(result)
    assert passed == results
    received = [next(subscriber), next(subscriber)]
    assert [(message.seq, message.dropped) for message in received if isinstance(message, FrameMessage)] == [
        (0, {}),
        (2, {"stale": 1}),
    ]
    assert subscriber.missed == {"door": 0}


def test_the_events_of_a_frame_follow_it(joined: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = joined
    list(publish([make_result(GREY, objects=[(0, 0, 4, 4)])], EventPublisher(publisher, FrameCounters(), SPEC)))
    first, second = next(subscriber), next(subscriber)
    assert isinstance(first, FrameMessage)
    assert isinstance(second, EventMessage)
    assert (second.event, second.kind, second.track, second.label) == ("new", "object", 1, "person")


def test_a_stage_that_begins_anew_knows_what_it_has_told(joined: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = joined
    event_publisher = EventPublisher(publisher, FrameCounters(), SPEC)
    for seq in range(2):
        list(publish([make_result(GREY, objects=[(0, 0, 4, 4)], seq=seq)], event_publisher))
    kinds = [type(next(subscriber)) for _ in range(3)]
    assert kinds == [FrameMessage, EventMessage, FrameMessage]
    assert subscriber.receive(0.1) is None


def test_a_frame_whose_events_cannot_be_told_is_not_told_at_all(
    joined: tuple[Publisher, Subscriber], monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*given: object) -> list[EventMessage]:
        raise ZeroDivisionError

    monkeypatch.setattr(EventLog, "update", crash)
    publisher, subscriber = joined
    counters = FrameCounters()
    with pytest.raises(ZeroDivisionError):
        list(publish([make_result(GREY)], EventPublisher(publisher, counters, SPEC)))
    assert counters.of("door").published == 0
    assert subscriber.receive(0.1) is None


def test_nobody_subscribes() -> None:
    with Publisher(LOOPBACK) as publisher:
        began = time.monotonic()
        assert not publisher.wait_for_subscriber(0.05)
        assert time.monotonic() - began >= 0.05


def test_who_was_waited_for_gets_the_very_first_message() -> None:
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address, timeout_s=5.0) as subscriber:
        assert publisher.wait_for_subscriber(5.0)
        publisher.send(UP)
        assert next(subscriber) == UP


def test_threads_may_send_at_the_same_time(joined: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = joined
    threads = [threading.Thread(target=lambda: [publisher.send(UP) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [subscriber.receive(5.0) for _ in range(400)] == [UP] * 400


def test_a_subscriber_that_does_not_read_delays_nobody_and_loses_messages() -> None:
    settings = PublishSettings(address="tcp://127.0.0.1:0", high_water_mark=1)
    wordy = HealthMessage(stream="door", at="", state="down", cause="x" * 100_000)
    with Publisher(settings) as publisher, Subscriber(publisher.address) as subscriber:
        meet(publisher, subscriber)
        began = time.monotonic()
        for _ in range(3000):
            publisher.send(wordy)
        assert time.monotonic() - began < 5.0
        received = 0
        while subscriber.receive(0.3) is not None:
            received += 1
    assert 0 < received < 3000


FLOOD = """
import sys, time, zmq
socket = zmq.Context().socket(zmq.XSUB)
socket.sndhwm = socket.linger = 0
socket.connect(sys.argv[1])
end, number = time.monotonic() + float(sys.argv[2]), 0
while time.monotonic() < end:
    for number in range(number, number + 1000):
        socket.send(b"rubbish" if number % 2 else b"\\x01frame/%d" % number)
"""


@pytest.mark.integration
def test_a_subscriber_that_floods_delays_nobody(joined: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = joined
    flood = subprocess.Popen([sys.executable, "-c", FLOOD, publisher.address, "3"])
    try:
        count, worst_s, slowest_s = 0, 0.0, 0.0
        while flood.poll() is None or count < 100:
            began_s = time.monotonic()
            publisher.send(UP)
            sent_s = time.monotonic()
            assert subscriber.receive(10.0) is not None
            worst_s, slowest_s = max(worst_s, sent_s - began_s), max(slowest_s, time.monotonic() - sent_s)
            count += 1
    finally:
        flood.kill()
        flood.wait()
    assert worst_s < 1.0
    assert slowest_s < 5.0


@pytest.mark.integration
def test_who_waits_for_a_subscriber_does_not_wait_for_one_that_floods() -> None:
    with Publisher(LOOPBACK) as publisher:
        flood = subprocess.Popen([sys.executable, "-c", FLOOD, publisher.address, "60"])
        try:
            assert publisher.wait_for_subscriber(30.0)  # and comes back
        finally:
            flood.kill()
            flood.wait()


@pytest.mark.parametrize(
    "rubbish",
    [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 100_000, b"\xff\0\0\0\0\0\0\0\1\x7f" + bytes(54)],
    ids=["http", "ones", "a handshake cut short"],
)
def test_rubbish_on_the_socket_harms_nobody(joined: tuple[Publisher, Subscriber], rubbish: bytes) -> None:
    publisher, subscriber = joined
    host, port = publisher.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(rubbish)
        publisher.send(UP)
        assert subscriber.receive(5.0) == UP


def test_who_says_too_much_at_once_is_disconnected(joined: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = joined
    with zmq.Context() as context, context.socket(zmq.XSUB) as stranger:
        stranger.linger = 0
        monitor = stranger.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        stranger.connect(publisher.address)
        stranger.send(b"\x01" + b"x" * LONGEST_HEARD)
        assert monitor.poll(5000), "it was not disconnected"
        stranger.disable_monitor()
    publisher.send(UP)
    assert subscriber.receive(5.0) == UP


def test_only_who_subscribes_is_waited_for() -> None:
    with Publisher(LOOPBACK) as publisher, zmq.Context() as context, context.socket(zmq.XSUB) as stranger:
        stranger.linger = 0
        stranger.connect(publisher.address)
        stranger.send(b"rubbish")
        assert not publisher.wait_for_subscriber(0.3)
        stranger.send(b"\x01frame/")
        assert publisher.wait_for_subscriber(5.0)


def test_messages_sent_just_before_closing_arrive() -> None:
    publisher = Publisher(LOOPBACK)
    with Subscriber(publisher.address, timeout_s=1.0) as subscriber:
        meet(publisher, subscriber)
        for _ in range(50):
            publisher.send(UP)
        publisher.close()
        assert len(list(subscriber)) == 50


def test_events_that_a_crash_kept_back_are_told_with_the_next_frame(
    joined: tuple[Publisher, Subscriber], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher, subscriber = joined
    event_publisher, send = EventPublisher(publisher, FrameCounters(), SPEC), publisher.send

    def crash(message: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(publisher, "send", crash)
    with pytest.raises(ZeroDivisionError):
        event_publisher.update(make_result(GREY, objects=[(0, 0, 4, 4)]))
    monkeypatch.setattr(publisher, "send", send)
    event_publisher.update(make_result(GREY, objects=[(0, 0, 4, 4)], seq=1))
    frame, event = next(subscriber), next(subscriber)
    assert isinstance(frame, FrameMessage) and frame.seq == 1
    assert isinstance(event, EventMessage) and (event.event, event.seq) == ("new", 0)


def test_the_end_of_a_stream_ends_what_was_told_of_it(joined: tuple[Publisher, Subscriber]) -> None:
    publisher, subscriber = joined
    event_publisher = EventPublisher(publisher, FrameCounters(), SPEC)
    event_publisher.update(make_result(GREY, objects=[(0, 0, 4, 4)]))
    event_publisher.end("door", "down")
    event_publisher.end_all("stopped")
    reported = [next(subscriber) for _ in range(3)][1:]
    assert [(one.event, one.cause) for one in reported if isinstance(one, EventMessage)] == [
        ("new", None),
        ("ended", "down"),
    ]
    assert subscriber.receive(0.1) is None


def test_who_comes_after_a_killed_publisher_ends_what_that_one_announced() -> None:
    open_events = OpenEventLog.create(("door",))
    with Publisher(LOOPBACK) as first:
        event_publisher = EventPublisher(first, FrameCounters(), SPEC, open_events=open_events)
        event_publisher.update(make_result(GREY, objects=[(0, 0, 4, 4)], faces=[(0, 0, 4, 4)]))
        settings = PublishSettings(address=first.address)
    with Publisher(settings) as second, Subscriber(second.address, timeout_s=5.0) as subscriber:
        settle(second, open_events, "crash")
        reported = [next(subscriber), next(subscriber)]
        assert [(one.kind, one.event, one.cause) for one in reported if isinstance(one, EventMessage)] == [
            ("face", "ended", "crash"),
            ("object", "ended", "crash"),
        ]
        settle(second, open_events, "crash")
        assert subscriber.receive(0.1) is None
    open_events.close()


def test_who_comes_later_hears_how_each_stream_is() -> None:
    down = HealthMessage(stream="gate", at="2026-11-23T09:14:08.120Z", state="down", cause="no answer")
    yard = HealthMessage(stream="yard", at="2026-11-23T09:14:09.120Z", state="up", cause="")
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address) as early:
        assert publisher.wait_for_subscriber(10.0)
        for message in (UP, down, yard):
            publisher.send(message)
        assert [early.receive(10.0) for _ in range(3)] == [UP, down, yard]
        with Subscriber(publisher.address, streams=["door", "gate"]) as late:  # of the same kinds as the other one
            heard = [late.receive(10.0), late.receive(10.0)]
            assert sorted(heard, key=str) == sorted([UP, down], key=str)
            assert late.receive(0.3) is None
