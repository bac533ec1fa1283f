"""The subscriber's side of the wire for asyncio programs.

>>> async def names() -> None:
...     async with AsyncSubscriber("tcp://127.0.0.1:5555", types=["event"]) as subscriber:
...         async for message in subscriber:
...             print(message)
"""

import math
import time
from collections.abc import Collection
from pathlib import Path
from typing import Self

import zmq
import zmq.asyncio

from pipeline.wire.client import Subscription, milliseconds_until
from pipeline.wire.messages import Message, MessageType


class AsyncSubscriber:
    """Iterates over the messages of a publisher with ``async for``; made and used in one event loop.

    Whoever takes messages more slowly than they come loses some, as with :class:`pipeline.wire.client.Subscriber`,
    whose arguments and errors these are.
    """

    def __init__(
        self,
        address: str,
        streams: Collection[str] | None = None,
        types: Collection[MessageType] | None = None,
        server_key: str | Path | None = None,
        timeout_s: float | None = None,
        client_key: str | Path | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._socket = zmq.asyncio.Context.instance().socket(zmq.SUB)
        self._subscription = Subscription(self._socket, address, streams, types, server_key, client_key)

    @property
    def missed(self) -> dict[str, int]:
        """Frame messages that were sent and did not arrive, by stream, between the first and the last that did."""
        return self._subscription.missed

    async def receive(self, timeout_s: float | None = None) -> Message | None:
        """The next message, or None when none came in time; a timeout of None waits for ever. May be cancelled."""
        end = math.inf if timeout_s is None else time.monotonic() + timeout_s
        while await self._socket.poll(milliseconds_until(end)):
            if (message := self._subscription.take(await self._socket.recv_multipart())) is not None:
                return message
        return None

    def close(self) -> None:
        """Disconnect; may be called twice."""
        self._socket.close(linger=0)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        message = await self.receive(self._timeout_s)
        if message is None:
            raise StopAsyncIteration
        return message

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
