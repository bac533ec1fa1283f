"""The Trunkline that is watched: the console command in a process of its own, its subscriber, its books, its log."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from engines.errors import MessageError, StageError
from pipeline.store import EventQuery, EventStore
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage
from tools.benchmarking.processes import descendants, usage
from tools.soaking import engine, inside

COMMAND: Final = (sys.executable, "-c", "from tools.main import main; main()", "--log-json")
START_S: Final = 180.0  # to open an engine on a busy machine
END_S: Final = 120.0
LOOK_S: Final = 0.1
ANSWER_S: Final = 5.0  # of the page
WORK: Final = bytes(1_000_000)
WEBSOCKET: Final = (
    "GET /api/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
COMMAND_LENGTH: Final = 120  # of its end, that tells one from another


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame's message."""

    at_s: float  # time.monotonic() of its arrival
    number: int  # of the stream's messages: seq - sum(dropped)
    total_ms: float  # from capture to message


Event = tuple[str, int, str, str, int | None]  # stream, seq, event, kind, track


@dataclass(frozen=True, slots=True)
class Heard:
    """An event's message."""

    at_s: float  # time.monotonic() of its arrival
    event: Event


@dataclass(frozen=True, slots=True)
class Sample:
    """What the processes of a run have, all together, at a moment."""

    at_s: float
    memory_mb: float  # resident, without what is shared
    shared_mb: float  # the largest of any process
    descriptors: int
    threads: int
    processes: int
    work_ms: float  # that a fixed piece of work of another process took: what the machine was like


FORK_SERVER: Final = "multiprocessing.forkserver"  # in its command, which those that it forks have, too


class Trunkline:
    """A run of a configuration in ``folder``, and all that it says.

    Args:
        folder: for the configuration, the log, the summary and the event store.
        streams: name -> address.
        model: folder or name.
        links: threads or processes.
        seconds: after which it ends though nobody ends it: whoever made it may have been killed.

    Raises:
        StageError: it does not start.
    """

    def __init__(self, folder: Path, streams: dict[str, str], model: str, links: str, seconds: float) -> None:
        self.folder, self.streams = folder, streams
        self.frames: defaultdict[str, list[Seen]] = defaultdict(list)
        self.health: defaultdict[str, list[tuple[float, HealthMessage]]] = defaultdict(list)
        self.events: list[Heard] = []
        self.acknowledged: set[Event] = set()  # seen in the store while it ran
        self.refused = 0  # messages that follow no schema
        self._page = free_port()
        environment = inside.prepare(folder)
        self._config(model, links)
        self._log = (folder / "run.log").open("wb")
        options = {"--summary": folder / "run.json", "--wait-for-subscriber": START_S, "--seconds": seconds}
        arguments = [str(each) for option in options.items() for each in option]
        self.process = subprocess.Popen(
            (*COMMAND, "run", str(folder / "run.toml"), *arguments),
            stdout=self._log,
            stderr=self._log,
            env=environment,
            start_new_session=True,
        )
        self.address = self._address()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._reader.start()

    def _config(self, model: str, links: str) -> None:
        text = [
            f'links = "{links}"',
            f'[model]\npath = {json.dumps(model)}\nbackend = "soak"',
            f'[web]\naddress = "127.0.0.1:{self._page}"\naccounts = {json.dumps(str(self.folder / "accounts"))}',
            '[publish]\naddress = "tcp://127.0.0.1:0"',
        ]
        text.append("high_water_mark = 100_000")
        store = json.dumps(str(self.folder / "events"))
        text.append(f'[[sinks]]\nkind = "store"\ndirectory = {store}\nclips = false\nmin_free_gb = 0.0')
        text += [
            f"[record]\ndirectory = {json.dumps(str(self.folder / 'recording'))}\nsegment_s = 60.0\nmin_free_gb = 0.0"
        ]
        text += [
            f'[[streams]]\nname = "{name}"\nsource = "{source}"\ntimeout_s = 2.0'
            for name, source in self.streams.items()
        ]
        (self.folder / "run.toml").write_text("\n".join(text) + "\n")

    def _address(self) -> str:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self.process.poll() is None:
            for line in self.log().splitlines():
                if line.startswith("publishing on "):
                    return line.removeprefix("publishing on ")
            time.sleep(LOOK_S)
        raise StageError(f"the run did not start: {self.log()[-2000:]}")

    def log(self, since: int = 0) -> str:
        """What the run has logged, from a place in the file on."""
        with (self.folder / "run.log").open("rb") as file:
            file.seek(since)
            return file.read().decode(errors="replace")

    def log_size(self) -> int:
        """How long the log is now."""
        return (self.folder / "run.log").stat().st_size

    def _read(self) -> None:
        with Subscriber(self.address) as subscriber:
            while not self._over.is_set():
                try:
                    message = subscriber.receive(LOOK_S)
                except MessageError:
                    self.refused += 1
                    continue
                if isinstance(message, FrameMessage):
                    number = message.seq - sum(message.dropped.values())
                    self.frames[message.stream].append(Seen(time.monotonic(), number, message.timings_ms.total))
                elif isinstance(message, HealthMessage):
                    told = self.health[message.stream]
                    if not told or told[-1][1] != message:  # it is said again to whoever subscribes
                        told.append((time.monotonic(), message))
                elif isinstance(message, EventMessage):
                    event = message.stream, message.seq, message.event, message.kind, message.track
                    self.events.append(Heard(time.monotonic(), event))

    def break_engine(self, manner: str) -> Path:
        """Let the next batch fail (:data:`tools.soaking.engine.MANNERS`); the file that is gone once it does."""
        file = self.folder / engine.FILE
        written = file.with_suffix(".new")
        written.write_text(manner)
        return written.rename(file)

    def set_clock(self, seconds: float) -> None:
        """Let its processes see a clock that is so far ahead of the machine's."""
        inside.set_clock(self.folder, seconds)

    def page_client(self) -> socket.socket:
        """Open a WebSocket of the page that hears everything; nothing is read of it beyond the first bytes.

        Raises:
            OSError: the page does not answer, or not so.
        """
        client = socket.create_connection(("127.0.0.1", self._page), timeout=ANSWER_S)
        try:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(WEBSOCKET.format(port=self._page).encode())
            if not client.recv(12).startswith(b"HTTP/1.1 101"):
                raise ConnectionError("the page opens no WebSocket")
        except OSError:
            client.close()
            raise
        return client

    def page_answers(self) -> bool:
        """Whether the page opens a WebSocket."""
        try:
            self.page_client().close()
        except OSError:
            return False
        return True

    def page_processes(self) -> list[int]:
        """Return those that serve the page."""
        return [pid for pid, command in descendants(self.process.pid).items() if " view " in command]

    def children(self) -> list[int]:
        """The processes of its stages, which one of its own has forked."""
        servers = [pid for pid, command in descendants(self.process.pid).items() if FORK_SERVER in command]
        return [
            child for pid in servers for child in descendants(pid) if child != pid
        ]  # of a child that it forked: none

    def commands(self) -> list[str]:
        """Return the end of what each of its processes was started as, without what is a number there."""
        return sorted(
            re.sub(r"\d+", "N", command[-COMMAND_LENGTH:]) for command in descendants(self.process.pid).values()
        )

    def sample(self) -> Sample:
        """Return what its processes have now."""
        used, began_s = usage(self.process.pid), time.perf_counter()
        hashlib.sha256(WORK)
        work_ms = 1000 * (time.perf_counter() - began_s)
        memory_mb, shared_mb = used.own_bytes / 1e6, used.shared_bytes / 1e6
        return Sample(time.monotonic(), memory_mb, shared_mb, used.descriptors, used.threads, used.processes, work_ms)

    def up(self, stream: str, since_s: float) -> bool:
        """Whether a frame of a stream has come since then, and its last report does not say that it is down."""
        seen, told = self.frames[stream], self.health[stream]
        return bool(seen) and seen[-1].at_s > since_s and (not told or told[-1][1].state == "up")

    def told_since(self, stream: str, since_s: float) -> bool:
        """Return whether something was told of a stream since then."""
        told = self.health[stream]
        return bool(told) and told[-1][0] >= since_s

    def stop(self) -> dict[str, Any]:
        """End the run; return its summary. StageError where it has none."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        time.sleep(1.0)  # for the last messages
        self._over.set()
        self._reader.join()
        self._log.close()
        if not (self.folder / "run.json").is_file():
            raise StageError(f"the run ended with status {self.process.returncode}: {self.log()[-2000:]}")
        summary: dict[str, Any] = json.loads((self.folder / "run.json").read_text())
        return summary

    def stored(self) -> set[Event]:
        """Return the events in the store."""
        with EventStore(self.folder / "events") as store:
            return {
                (each.stream, int(json.loads(bytes(each.body))["seq"]), each.event, each.kind, each.track)
                for each in store.matching(EventQuery())
            }

    def note_stored(self) -> None:
        """Note what is in the store now: it is acknowledged, and must be there for ever."""
        self.acknowledged |= self.stored()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def free_port() -> int:
    """Return a port of loopback that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def unaccounted(summary: dict[str, Any]) -> int:
    """Frames of a summary that were captured, and neither published nor dropped with a cause; 0, or there is a bug."""
    books: Sequence[dict[str, Any]] = list(summary["streams"].values())
    return sum(abs(book["captured"] - book["published"] - sum(book["dropped"].values())) for book in books)
