"""What a run says, heard once for all who look at the page."""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import structlog

from engines.errors import MessageError
from pipeline.settings.schema import StreamSettings
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import FrameMessage, HealthMessage, Message, encode

POLL_S: Final = 0.05  # between two looks whether it is to stop
SILENT_S: Final = 10.0  # without a frame or a word, nobody knows how a stream is
WINDOW_S: Final = 5.0  # of rates and latencies
MAX_TIMES: Final = 500  # frames of the window, at the most
MAX_FRAMES: Final = 32  # that wait for a slow reader; the oldest are lost
MAX_OTHERS: Final = 500  # events and health that wait for one
MAX_STREAMS: Final = 1000
LOG_LINES: Final = 200

State = Literal["up", "down", "ended", "unknown"]

log = structlog.get_logger()


@dataclass(slots=True)
class HeardState:
    """How a stream is, as far as its messages say."""

    state: State = "unknown"
    cause: str = "nothing was heard of it yet"
    size: tuple[int, int] | None = None
    captured: int = 0
    published: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    heard_s: float = 0.0  # time.monotonic()
    times: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=MAX_TIMES))  # heard, total ms

    def take(self, message: FrameMessage | HealthMessage, now_s: float) -> None:
        """Learn from a message."""
        self.heard_s = now_s
        if isinstance(message, HealthMessage):
            self.state, self.cause = message.state, message.cause
            self.captured, self.published, self.dropped = message.captured, message.published, message.dropped
            return
        if self.state != "up":
            self.state, self.cause = "up", ""
        self.size, self.dropped = message.size, message.dropped
        self.captured = message.seq + 1
        self.published = self.captured - sum(message.dropped.values())
        self.times.append((now_s, message.timings_ms.total))

    def at(self, now_s: float) -> tuple[State, str]:
        """State and cause at a moment."""
        silent_s = now_s - self.heard_s
        if self.state == "up" and silent_s > SILENT_S:
            return "unknown", f"nothing was heard of it for {silent_s:.0f} s"
        return self.state, self.cause

    def recent(self, now_s: float) -> list[tuple[float, float]]:
        """When frames of the last seconds were heard, and how long each took, ms."""
        return [each for each in self.times if each[0] > now_s - WINDOW_S]


class Listener:
    """A reader of messages, in the server's event loop; what it does not read in time it loses, frames first."""

    def __init__(self, streams: Collection[str] | None) -> None:
        self.streams = None if streams is None else frozenset(streams)
        self.lost = 0
        self._frames: deque[str] = deque()
        self._others: deque[str] = deque()
        self._some = asyncio.Event()

    def offer(self, stream: str, is_frame: bool, text: str) -> None:
        """Let a message wait for it, if it is one of its streams'."""
        if self.streams is not None and stream not in self.streams:
            return
        waiting, room = (self._frames, MAX_FRAMES) if is_frame else (self._others, MAX_OTHERS)
        if len(waiting) == room:
            waiting.popleft()
            self.lost += 1
        waiting.append(text)
        self._some.set()

    async def next(self) -> str:
        """Return a message, once there is one."""
        while not (self._others or self._frames):
            self._some.clear()
            await self._some.wait()
        return (self._others or self._frames).popleft()


class Hub:
    """Subscribes to a run in a thread and passes on what it says.

    Args:
        address: of the run's results socket.
        streams: that are known to be there, with their zones and lines.
        server_key: the run's public key file, where it uses keys.

    Raises:
        ConfigError: the address or the key cannot be used.
    """

    def __init__(self, address: str, streams: Iterable[StreamSettings] = (), server_key: str | None = None) -> None:
        self.address = address
        self.settings: dict[str, StreamSettings] = {}
        self._states: dict[str, HeardState] = {}
        self._listeners: set[Listener] = set()
        self._lines: deque[dict[str, str]] = deque(maxlen=LOG_LINES)
        self._lock = threading.Lock()  # of the states and lines
        self.know(streams)
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._subscriber = Subscriber(address, server_key=server_key)
        self._thread = threading.Thread(target=self._run, name="hub", daemon=True)

    def know(self, streams: Iterable[StreamSettings]) -> None:
        """Take in which streams the configuration has now."""
        with self._lock:
            self.settings = {each.name: each for each in streams}
            for name in self.settings:
                self._states.setdefault(name, HeardState())

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to listen, for readers in this event loop."""
        self._loop = loop
        self._thread.start()

    def stop(self) -> None:
        """Listen no longer."""
        self._stop.set()
        if self._thread.ident is None:
            self._subscriber.close()
        else:
            self._thread.join()

    def join(self, streams: Collection[str] | None) -> Listener:
        """Return a reader of these streams, None: of all; in the event loop."""
        listener = Listener(streams)
        self._listeners.add(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        """Pass on nothing more to a reader."""
        self._listeners.discard(listener)

    def names(self) -> tuple[str, ...]:
        """Return all streams that are known, in the configuration's order."""
        with self._lock:
            return tuple(self._states)

    def report(self, name: str) -> dict[str, object]:
        """Return how a stream is, for the page."""
        now_s = time.monotonic()
        with self._lock:
            known = self._states.get(name, HeardState())
            state, cause = known.at(now_s)
            recent = known.recent(now_s)
            size, books = known.size, (known.captured, known.published, dict(known.dropped))
        totals = sorted(total for _, total in recent)
        return {
            "name": name,
            "state": state,
            "cause": cause,
            "size": size,
            "fps": round(len(recent) / WINDOW_S, 1),
            "latency_ms": {"p50": _quantile(totals, 0.5), "p99": _quantile(totals, 0.99)},
            "captured": books[0],
            "published": books[1],
            "dropped": books[2],
        }

    def latencies_ms(self, name: str) -> list[float]:
        """Return how long the last frames of a stream took."""
        with self._lock:
            return [total for _, total in self._states.get(name, HeardState()).times]

    def lines(self) -> list[dict[str, str]]:
        """Return what happened to streams, the latest last."""
        with self._lock:
            return list(self._lines)

    def hear(self, message: Message) -> None:
        """Take a message of the run."""
        is_frame = isinstance(message, FrameMessage)
        with self._lock:
            if message.stream in self._states or len(self._states) < MAX_STREAMS:
                state = self._states.setdefault(message.stream, HeardState())
                if isinstance(message, FrameMessage | HealthMessage):
                    state.take(message, time.monotonic())
            if isinstance(message, HealthMessage):
                line = {"at": message.at, "stream": message.stream, "state": message.state, "cause": message.cause}
                if line not in self._lines:  # it is said again to whoever comes later
                    self._lines.append(line)
        if self._listeners and self._loop is not None and not self._loop.is_closed():
            text = encode(message, "json").decode()
            self._loop.call_soon_threadsafe(self._pass_on, message.stream, is_frame, text)

    def _pass_on(self, stream: str, is_frame: bool, text: str) -> None:
        for listener in self._listeners:
            listener.offer(stream, is_frame, text)

    def _run(self) -> None:
        with self._subscriber as subscriber:
            while not self._stop.is_set():
                try:
                    message = subscriber.receive(POLL_S)
                except MessageError as error:  # of another version, for one: the others are still shown
                    log.warning("message not shown", error=str(error))
                    continue
                if message is not None:
                    self.hear(message)


def _quantile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 1) if ordered else None
