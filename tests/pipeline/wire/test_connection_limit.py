"""Whoever opens connections and says nothing takes descriptors from a run only up to a limit."""

import os
import socket
import time
from collections.abc import Iterator

import pytest
import zmq

from pipeline.settings.schema import PublishSettings
from pipeline.sinks import zmq as zmq_sink
from pipeline.sinks.zmq import Publisher
from pipeline.wire.client import Subscriber
from pipeline.wire.connection_limit import ConnectionLimit
from pipeline.wire.messages import HealthMessage

UP = HealthMessage(stream="door", at="2026-11-23T09:14:07.120Z", state="up", cause="opened")
MOST = 8


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    monkeypatch.setattr(zmq_sink, "ConnectionLimit", lambda socket: ConnectionLimit(socket, MOST))
    with Publisher(PublishSettings(address="tcp://127.0.0.1:0")) as publisher:
        yield publisher


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def closed(connection: socket.socket) -> bool:
    """Whether the other end has hung up; it says a greeting first."""
    connection.settimeout(0.2)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


def test_idle_connections_take_no_more_than_their_share(publisher: Publisher) -> None:
    port = int(publisher.address.rpartition(":")[2])
    before = descriptors()
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    end = time.monotonic() + 10.0
    while (taken := descriptors() - before - len(idle)) > MOST and time.monotonic() < end:
        time.sleep(0.01)
    assert taken <= MOST
    assert sum(map(closed, idle[:MOST])) == 0 and all(map(closed, idle[-10:]))
    for connection in idle:
        connection.close()


def test_who_comes_when_others_have_gone_is_let_in(publisher: Publisher) -> None:
    port = int(publisher.address.rpartition(":")[2])
    for _ in range(3):
        idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(2 * MOST)]
        time.sleep(0.1)
        for connection in idle:
            connection.close()
    with Subscriber(publisher.address, types=["health"]) as subscriber:
        assert publisher.wait_for_subscriber(10.0)
        publisher.send(UP)
        assert subscriber.receive(10.0) == UP


def test_the_thread_ends_with_its_socket() -> None:
    with zmq.Context() as context:
        listening = context.socket(zmq.XPUB)
        limit = ConnectionLimit(listening)
        listening.bind("tcp://127.0.0.1:0")
        listening.close(linger=0)
        limit.wait()
    assert limit.refused == 0
