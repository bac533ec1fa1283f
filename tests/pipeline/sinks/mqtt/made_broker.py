"""A real Mosquitto on a free port, and a network in front of it that can be cut."""

import asyncio
import contextlib
import secrets
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import aiomqtt
import pytest

from tests.ports import free_port
from tests.waiting import until

PATIENCE_S = 30.0
BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


class Broker:
    """Mosquitto by a configuration of its own, as the user of the tests; what it retains is gone when it is killed."""

    def __init__(self, folder: Path, *lines: str) -> None:
        if BROKER is None:
            pytest.skip("Mosquitto is not installed (Debian: mosquitto)")
        self.port = free_port()
        self._file = folder / f"mosquitto-{self.port}.conf"
        options = lines or ("allow_anonymous true",)
        self._file.write_text(
            "\n".join((f"listener {self.port} 127.0.0.1", "persistence false", "user root", *options)) + "\n"
        )
        self.log = folder / f"mosquitto-{self.port}.log"
        self.start()

    def start(self, before: Callable[[], object] | None = None) -> None:
        assert BROKER is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [BROKER, "-c", str(self._file), "-v"], stdout=log, stderr=log, preexec_fn=before
            )
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1.0):
                return
            assert self._process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


class Wire:
    """A way to a port that can be cut: all connections through it break at once, and more are refused meanwhile."""

    def __init__(self, port: int) -> None:
        self._to, self._cut = port, False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._cut = True
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                if self._cut:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(("127.0.0.1", self._to), 5.0)
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        for each in (source, target):
            self._open.discard(each)
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # closing alone tells nobody while the other thread reads from it
            each.close()


class Listener:
    """Everything that a broker sends to one client, retained state first."""

    def __init__(self, port: int, topic: str = "#", **options: object) -> None:
        self.heard: list[tuple[str, bytes, bool]] = []
        self._loop = asyncio.new_event_loop()
        self._options = {"hostname": "127.0.0.1", "port": port, **options}
        self._topic = topic
        self._client: aiomqtt.Client | None = None
        self._ready = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            self._loop.run_until_complete(self._listen())
        self._loop.close()

    async def _listen(self) -> None:
        self._task = asyncio.current_task()
        async with aiomqtt.Client(**self._options) as client:  # type: ignore[arg-type]
            self._client = client
            await client.subscribe(self._topic, qos=1)
            self._ready.set()
            async for message in client.messages:
                self.heard.append((message.topic.value, bytes(message.payload), message.retain))

    def publish(self, topic: str, payload: str, retain: bool = False) -> None:
        assert self._client is not None
        sending = self._client.publish(topic, payload, qos=1, retain=retain)
        asyncio.run_coroutine_threadsafe(sending, self._loop).result(PATIENCE_S)

    def catch_up(self) -> None:
        """Wait until all is heard that the broker has by now: each client gets it in the order in which it came."""
        mark = f"mark/{secrets.token_hex(4)}"
        self.publish(mark, "here")
        until(lambda: mark in self.last)

    @property
    def last(self) -> dict[str, bytes]:
        """The last payload of each topic."""
        return {topic: payload for topic, payload, _ in list(self.heard)}

    def of(self, topic: str) -> list[bytes]:
        return [payload for each, payload, _ in list(self.heard) if each == topic]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._task is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join(PATIENCE_S)


def retained(port: int, **options: object) -> dict[str, bytes]:
    """What a broker keeps now, which a new client gets."""
    with Listener(port, **options) as listener:
        listener.catch_up()
        return {topic: payload for topic, payload, kept in listener.heard if kept}


@contextlib.contextmanager
def cuttable(port: int) -> Iterator[Wire]:
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()
