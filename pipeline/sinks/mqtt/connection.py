"""The connection to a broker, in a thread of its own: made again whenever it breaks, and told all state anew then."""

import asyncio
import logging
import random
import secrets
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import aiomqtt
import structlog

from engines.errors import kind_and_line
from pipeline.frames.backoff import Backoff
from pipeline.sinks.mqtt.outbox import Item, Outbox
from pipeline.sinks.mqtt.settings import MqttSettings

BACKOFF_S: Final = 0.5, 30.0  # the first and the longest wait before connecting again, each jittered
ANSWER_S: Final = 5.0  # that the broker has for what it is asked
KEEPALIVE_S: Final = 15  # without a word from us for half as long again, the broker sends the last will
IN_FLIGHT: Final = 20  # messages that were sent and not acknowledged yet: what paho has on the way at once
ROUND_S: Final = 0.1  # between two rounds of state: of what changes faster, the last value is told
SWEEP_S: Final = 3.0  # in which the broker has sent what it kept of earlier runs
CLOSE_S: Final = 2.0  # for what waits, once the run is over
ONLINE: Final = b"online"
OFFLINE: Final = b"offline"

Heard = Callable[[str, bytes], None]  # topic and payload of what was published, in the thread of the connection

log = structlog.get_logger()


class Connection:
    """Sends what is in an outbox, at least once, for as long as it takes.

    Args:
        settings: the broker.
        tls: None without.
        outbox: what is sent.
        available: the topic that says whether Trunkline is there.
        subscriptions: topics whose messages are heard, those that the broker kept left out.
        heard: called with each.
        roots: below which the broker keeps nothing but what is in the outbox.
        looked_up: below which the broker may have another's state, which is heard before it is replaced.
        found: called with each such state.
    """

    def __init__(
        self,
        settings: MqttSettings,
        tls: ssl.SSLContext | None,
        outbox: Outbox,
        available: str,
        subscriptions: tuple[str, ...],
        heard: Heard,
        roots: Callable[[], set[str]],
        looked_up: str | None,
        found: Heard,
    ) -> None:
        self._settings, self._tls, self._out = settings, tls, outbox
        self._available, self._subscriptions, self._heard, self._roots = available, subscriptions, heard, roots
        self._looked_up, self._found = looked_up, found
        # The same whenever it connects: a broker that still holds the old connection gives that one up, last will
        # and all, before it lets the new one in.
        self._client_id = settings.client_id or f"trunkline-{secrets.token_hex(6)}"
        self._closing = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._said_lost = False
        outbox.set(available, ONLINE)
        outbox.wake = self._wake
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Send what waits, for CLOSE_S at the most, say that Trunkline is gone, and disconnect."""
        self._closing.set()
        self._wake()
        self._thread.join(CLOSE_S + 0.5)
        self._out.give_up()

    def _wake(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: nothing is sent any more
            self._loop.call_soon_threadsafe(self._changed.set)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._stay_connected())
        except Exception:  # a bug; without this thread nothing is sent, and the outbox counts what that costs
            log.exception("MQTT connection is dead", broker=self._settings.host)
        finally:
            self._loop.close()

    async def _stay_connected(self) -> None:
        waits = Backoff(*BACKOFF_S, random.Random())
        while not self._closing.is_set():
            connected = False
            try:
                async with self._client() as client:
                    connected = True
                    self._say_connected()
                    await self._serve(client)
                    return
            except* (aiomqtt.MqttError, OSError) as group:
                self._say_lost(group.exceptions[0])
            if connected:
                waits.reset()
            self._changed.clear()
            await self._pause(waits.next())

    def _client(self) -> aiomqtt.Client:
        settings = self._settings
        client = aiomqtt.Client(
            settings.host,
            settings.broker_port,
            username=None if settings.user is None else str(settings.user),
            password=None if settings.password is None else str(settings.password),
            identifier=self._client_id,
            will=aiomqtt.Will(self._available, OFFLINE, qos=1, retain=True),
            tls_context=self._tls,
            timeout=ANSWER_S,
            keepalive=KEEPALIVE_S,
            clean_session=True,
            logger=logging.getLogger(f"{__name__}.paho"),
        )
        client.pending_calls_threshold = 2 * IN_FLIGHT
        return client

    async def _serve(self, client: aiomqtt.Client) -> None:
        """Listen and send until the run is over; raises where the connection breaks."""
        async with asyncio.TaskGroup() as tasks:
            others = [tasks.create_task(self._listen(client)), tasks.create_task(self._sweep(client))]
            for topic in (self._available, *self._subscriptions):
                await client.subscribe(topic, qos=1)
            self._out.again()
            await self._send_all(client)
            for task in others:
                task.cancel()
        self._out.set(self._available, OFFLINE)
        await client.publish(self._available, OFFLINE, qos=1, retain=True, timeout=CLOSE_S)

    async def _send_all(self, client: aiomqtt.Client) -> None:
        until = None
        while True:
            self._changed.clear()
            if items := self._out.take(IN_FLIGHT):
                await asyncio.gather(*(self._publish(client, item) for item in items))
                self._out.sent(items)
            elif self._closing.is_set():
                return
            if self._closing.is_set():
                until = until or self._loop.time() + CLOSE_S
                if self._loop.time() > until:
                    return
            elif len(items) < IN_FLIGHT:
                await asyncio.sleep(ROUND_S)
                await self._changed.wait()

    async def _publish(self, client: aiomqtt.Client, item: Item) -> None:
        if looks := self._is_looked_up(item.topic):  # a broker takes what one client asks in order
            await client.subscribe(item.topic, qos=1)
        await client.publish(item.topic, item.payload, qos=1, retain=item.retained)
        if looks:
            await client.unsubscribe(item.topic)

    def _is_looked_up(self, topic: str) -> bool:
        return self._looked_up is not None and topic.startswith(f"{self._looked_up}/")

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            topic = message.topic.value
            payload = bytes(message.payload)
            if topic == self._available:
                # The last will of a connection that the broker took for dead later than we did.
                if payload != ONLINE and not self._closing.is_set():
                    self._out.again((self._available,))
            elif self._is_looked_up(topic):
                if message.retain:
                    self._found(topic, payload)
            elif message.retain:
                if any(topic.startswith(f"{root}/") for root in self._roots()):
                    self._out.found(topic)
            else:
                self._heard(topic, payload)

    async def _sweep(self, client: aiomqtt.Client) -> None:
        """Look at what the broker keeps of each stream, and let what is not of this run be taken away."""
        swept: set[str] = set()
        while True:
            roots = self._roots() - swept
            for root in roots:
                await client.subscribe(f"{root}/#", qos=1)
            await asyncio.sleep(SWEEP_S)
            for root in roots:
                await client.unsubscribe(f"{root}/#")
            swept = (swept | roots) & self._roots()

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the run is over meanwhile."""
        end = self._loop.time() + seconds
        while not self._closing.is_set() and (left := end - self._loop.time()) > 0.0:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def _say_connected(self) -> None:
        self._said_lost = False
        log.info("MQTT broker connected", broker=self._settings.host, port=self._settings.broker_port)

    def _say_lost(self, error: BaseException) -> None:
        if not self._said_lost:  # once for each time it was lost
            cause = kind_and_line(error)  # no user or password is in paho's errors
            log.warning("MQTT broker cannot be reached", broker=self._settings.host, cause=cause)
        self._said_lost = True
