"""The subscriber: what it hears, what it counts as lost, and that it comes back."""

import socket
import threading
import time
from pathlib import Path

import pytest
import zmq
import zmq.auth
from hypothesis import given
from hypothesis import strategies as st

from engines.errors import ConfigError, MessageError
from pipeline.settings.schema import PublishSettings
from pipeline.sinks.zmq import Publisher
from pipeline.wire.client import Gaps, Subscriber
from pipeline.wire.messages import EventMessage, HealthMessage, Message
from tests.pipeline.made_messages import AT, frame, health

LOOPBACK = PublishSettings(address="tcp://127.0.0.1:0")


def event(stream: str) -> EventMessage:
    return EventMessage(stream=stream, seq=0, captured_at=AT, event="new", kind="scene")


def heard(publisher: Publisher, subscriber: Subscriber, *messages: Message) -> list[Message]:
    """What arrives of ``messages``; the last one must, and the subscription is waited for with it."""
    end = time.monotonic() + 5.0
    while subscriber.receive(0.02) is None:
        assert time.monotonic() < end
        publisher.send(messages[-1])
    while subscriber.receive(0.05) is not None:
        pass
    for message in messages:
        publisher.send(message)
    arrived = [next(subscriber)]
    while arrived[-1] != messages[-1]:
        arrived.append(next(subscriber))
    return arrived


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
def test_everything_arrives_typed_when_nothing_is_said(encoding: str) -> None:
    settings = PublishSettings(address="tcp://127.0.0.1:0", encoding="json" if encoding == "json" else "msgpack")
    messages = (frame("door"), event("yard"), health("door"))
    with Publisher(settings) as publisher, Subscriber(publisher.address, timeout_s=5.0) as subscriber:
        assert heard(publisher, subscriber, *messages) == list(messages)


def test_a_stream_whose_name_begins_alike_is_not_heard() -> None:
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address, ["door"], timeout_s=5.0) as subscriber:
        arrived = heard(publisher, subscriber, frame("door2"), frame("door"), event("doo"), health("door"))
    assert arrived == [frame("door"), health("door")]


def test_only_the_types_that_were_asked_for() -> None:
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address, types=["event"], timeout_s=5.0) as subscriber:
        assert heard(publisher, subscriber, frame("door"), health("door"), event("yard")) == [event("yard")]


def test_types_and_streams_together() -> None:
    with (
        Publisher(LOOPBACK) as publisher,
        Subscriber(publisher.address, ["door", "yard"], ["event", "health"], timeout_s=5.0) as subscriber,
    ):
        arrived = heard(publisher, subscriber, frame("door"), event("gate"), event("yard"), health("door"))
    assert arrived == [event("yard"), health("door")]


def test_iteration_ends_when_nothing_comes() -> None:
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address, timeout_s=0.05) as subscriber:
        assert list(subscriber) == []


def test_messages_for_others_do_not_prolong_the_wait() -> None:
    stop = threading.Event()
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address, ["door"]) as subscriber:

        def chatter() -> None:
            while not stop.wait(0.01):
                publisher.send(health("door2"))

        thread = threading.Thread(target=chatter)
        thread.start()
        began = time.monotonic()
        assert subscriber.receive(0.3) is None
        assert 0.25 < time.monotonic() - began < 2.0
        stop.set()
        thread.join()


def test_a_publisher_that_begins_again_is_heard_again() -> None:
    with Publisher(LOOPBACK) as first:
        subscriber = Subscriber(first.address, timeout_s=5.0)
        heard(first, subscriber, frame("door", 40), frame("door", 41))
    with subscriber, Publisher(PublishSettings(address=first.address)) as second:
        assert heard(second, subscriber, health("door"), frame("door", 1)) == [health("door"), frame("door", 1)]
        assert subscriber.missed == {"door": 0}


def test_missed_messages_are_counted_by_stream() -> None:
    with Publisher(LOOPBACK) as publisher, Subscriber(publisher.address, timeout_s=5.0) as subscriber:
        heard(publisher, subscriber, frame("door", 0), frame("yard", 3), frame("door", 9, stale=5), health("door"))
        assert subscriber.missed == {"door": 3, "yard": 0}


def test_a_message_that_is_none_is_an_error_and_the_next_one_still_comes() -> None:
    context = zmq.Context()
    server: zmq.Socket[bytes] = context.socket(zmq.XPUB)
    port = server.bind_to_random_port("tcp://127.0.0.1")
    with Subscriber(f"tcp://127.0.0.1:{port}", ["door"], ["frame"], timeout_s=5.0) as subscriber:
        server.recv()  # the subscription
        server.send_multipart([b"frame/door", b"hello"])
        server.send_multipart([b"frame/door", b"{}", b"{}"])
        server.send_multipart([b"frame/door", b'{"type":"health","stream":"door","at":"","state":"up","cause":""}'])
        with pytest.raises(MessageError, match="neither JSON nor MessagePack"):
            next(subscriber)
        with pytest.raises(MessageError, match="a message has 3 parts, but must have 2"):
            next(subscriber)
        assert isinstance(next(subscriber), HealthMessage)
    server.close(linger=0)
    context.term()


@pytest.mark.parametrize(
    "address", ["", "door", "tcp://127.0.0.1", "tcp://127.0.0.1:99999", "udp://1.2.3.4:5", "ipc://"]
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigError, match="must be tcp://HOST:PORT or ipc://PATH") as caught:
        Subscriber(address)
    assert repr(address) in str(caught.value)


def test_keys(tmp_path: Path) -> None:
    public, secret = zmq.auth.create_certificates(tmp_path, "server")
    other, _ = zmq.auth.create_certificates(tmp_path, "other")
    settings = PublishSettings(address="tcp://127.0.0.1:0", curve_secret_file=secret)
    with Publisher(settings) as publisher:
        with Subscriber(publisher.address, server_key=public, timeout_s=5.0) as subscriber:
            assert heard(publisher, subscriber, health("door")) == [health("door")]
        for key in (None, other):
            with Subscriber(publisher.address, server_key=key) as stranger:
                for _ in range(10):
                    publisher.send(health("door"))
                    assert stranger.receive(0.02) is None


def test_a_key_file_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "short.key").write_text('curve\n    public-key = "short"\n')
    for name in ("none.key", "short.key"):
        with pytest.raises(ConfigError, match=f"server key is .*{name}', which cannot be used"):
            Subscriber("tcp://127.0.0.1:5555", server_key=tmp_path / name)


def test_a_publisher_that_is_not_there_yet_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
    with Subscriber(address, timeout_s=5.0) as subscriber:
        assert subscriber.receive(0.05) is None
        with Publisher(PublishSettings(address=address)) as publisher:
            assert heard(publisher, subscriber, health("door")) == [health("door")]


@given(st.lists(st.sampled_from(["arrives", "lost", "dropped"]), max_size=50))
def test_what_was_lost_on_the_way_is_told_from_what_the_pipeline_dropped(fates: list[str]) -> None:
    gaps, dropped, pending, lost, begun = Gaps(), 0, 0, 0, False
    for seq, fate in enumerate(fates):
        if fate == "dropped":
            dropped += 1
        elif fate == "lost":
            pending += begun
        else:
            gaps.take(seq, dropped)
            lost, pending, begun = lost + pending, 0, True
            assert gaps.missed == lost


def test_what_was_missed_before_a_publisher_began_again_stays_counted() -> None:
    gaps = Gaps()
    for seq in (10, 13, 0, 2):
        gaps.take(seq, 0)
    assert gaps.missed == 3
