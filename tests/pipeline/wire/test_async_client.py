"""The subscriber for asyncio hears what the other one hears."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import zmq

from engines.errors import ConfigError, MessageError
from pipeline.settings.schema import PublishSettings
from pipeline.sinks.zmq import Publisher
from pipeline.wire.async_client import AsyncSubscriber
from pipeline.wire.messages import Message
from tests.pipeline.made_messages import frame, health

LOOPBACK = PublishSettings(address="tcp://127.0.0.1:0")
PATIENCE_S = 20.0


async def subscribed(publisher: Publisher, subscriber: AsyncSubscriber) -> None:
    """Until messages arrive, with what was sent for that read."""
    end = time.monotonic() + PATIENCE_S
    while await subscriber.receive(0.02) is None:
        assert time.monotonic() < end
        publisher.send(health("door"))
    while await subscriber.receive(0.1) is not None:
        pass


def heard(what: Callable[[Publisher, AsyncSubscriber], Awaitable[None]], streams: list[str] | None = None) -> None:
    async def run() -> None:
        with Publisher(LOOPBACK) as publisher:
            async with AsyncSubscriber(publisher.address, streams, timeout_s=1.0) as subscriber:
                await subscribed(publisher, subscriber)
                await asyncio.wait_for(what(publisher, subscriber), PATIENCE_S)

    asyncio.run(run())


def test_messages_arrive_in_order_and_iteration_ends_when_none_come() -> None:
    async def check(publisher: Publisher, subscriber: AsyncSubscriber) -> None:
        sent: list[Message] = [frame("door"), health("door"), frame("door", 4)]
        for message in (*sent, health("door2")):
            publisher.send(message)
        assert [message async for message in subscriber] == sent, "door2 was not asked for"
        assert subscriber.missed == {"door": 3}

    heard(check, ["door"])


def test_the_event_loop_goes_on_while_no_message_comes() -> None:
    async def check(publisher: Publisher, subscriber: AsyncSubscriber) -> None:
        waiting = asyncio.create_task(subscriber.receive())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        publisher.send(health("door"))
        assert await waiting == health("door")

    heard(check)


def test_a_wait_that_is_cancelled_loses_nothing() -> None:
    async def check(publisher: Publisher, subscriber: AsyncSubscriber) -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(subscriber.receive(), 0.05)
        publisher.send(health("door"))
        assert await subscriber.receive(PATIENCE_S) == health("door")

    heard(check)


def test_what_follows_no_schema_is_an_error() -> None:
    async def check() -> None:
        context = zmq.Context()
        server: zmq.Socket[bytes] = context.socket(zmq.XPUB)
        port = server.bind_to_random_port("tcp://127.0.0.1")
        async with AsyncSubscriber(f"tcp://127.0.0.1:{port}", ["door"], ["frame"]) as subscriber:
            await asyncio.to_thread(server.recv)  # the subscription
            server.send_multipart([b"frame/door", b"hello"])
            with pytest.raises(MessageError, match="neither JSON nor MessagePack"):
                await subscriber.receive(PATIENCE_S)
        server.close(linger=0)
        context.term()

    asyncio.run(check())


def test_a_key_file_and_an_address_that_cannot_be_used(tmp_path: Path) -> None:
    async def check() -> None:
        with pytest.raises(ConfigError, match="server key is"):
            AsyncSubscriber("tcp://127.0.0.1:5555", server_key=tmp_path / "none.key")
        with pytest.raises(ConfigError, match="must be tcp://HOST:PORT"):
            AsyncSubscriber("nowhere")

    asyncio.run(check())
