"""A subscriber in a process of its own: what leaves the pipeline is counted where somebody would use it."""

import multiprocessing
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from typing import Final, Self

from engines.errors import StageError
from pipeline.client import Subscriber
from pipeline.messages import FrameMessage, HealthMessage, TimingsMessage
from tools.benchmarking.clip import STREAM

REPORT_S: Final = 30.0  # after the end of a run, for the last messages and the listener's own report
END_S: Final = 2.0  # to end by itself


@dataclass(frozen=True, slots=True)
class Heard:
    """One frame's message."""

    at_s: float  # time.monotonic() when it arrived; the clock is one for all processes of a machine
    timings_ms: TimingsMessage
    objects: int
    faces: int


@dataclass(frozen=True, slots=True)
class Hearing:
    """All that arrived until the stream ended."""

    heard: tuple[Heard, ...]
    missed: int  # messages that were sent and did not arrive


class Listener:
    """Starts the subscriber, and asks it what it heard."""

    def __init__(self) -> None:
        # A fresh interpreter: a fork would share the threads and sockets of this one.
        self._context = multiprocessing.get_context("spawn")
        self._inbox, self._outbox = self._context.Pipe(duplex=False)
        self._first = self._context.Event()
        self._process: BaseProcess | None = None

    def start(self, address: str) -> None:
        """Subscribe at ``address``."""
        self._process = self._context.Process(target=_listen, args=(address, self._first, self._outbox), daemon=True)
        self._process.start()
        self._outbox.close()  # the other end has its own; without this one its death is noticed

    def heard_first(self, timeout_s: float) -> bool:
        """Whether a frame's message arrived, after waiting for it at the most ``timeout_s`` seconds."""
        return self._first.wait(timeout_s)

    def hearing(self) -> Hearing:
        """All that arrived; waits for the end of the stream.

        Raises:
            StageError: the subscriber died, or heard of no end.
        """
        if not self._inbox.poll(REPORT_S):
            raise StageError(f"the benchmark's subscriber heard of no end within {REPORT_S:g} s")
        try:
            hearing = self._inbox.recv()
        except EOFError:
            raise StageError("the benchmark's subscriber died") from None
        assert isinstance(hearing, Hearing)
        return hearing

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._inbox.close()
        if self._process is not None:
            self._process.join(0.0 if any(exc) else END_S)
            self._process.terminate()
            self._process.join()


def _listen(address: str, first: Event, outbox: "Connection[Hearing, Hearing]") -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for whoever started this
    heard: list[Heard] = []
    with Subscriber(address, streams=[STREAM], types=["frame", "health"]) as subscriber:
        for message in subscriber:
            if isinstance(message, FrameMessage):
                heard.append(Heard(time.monotonic(), message.timings_ms, len(message.objects), len(message.faces)))
                first.set()
            elif isinstance(message, HealthMessage) and message.state == "ended":
                outbox.send(Hearing(tuple(heard), subscriber.missed.get(STREAM, 0)))
                return
