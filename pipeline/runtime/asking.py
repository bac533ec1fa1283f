"""How sinks of the process that publishes have streams switched, which are the business of the one that started it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from engines.errors import ConfigError, TrunklineError
from pipeline.runtime.stream_rows import StreamTable
from pipeline.settings.schema import Switch
from pipeline.sinks.base import StreamSwitches

if TYPE_CHECKING:
    from pipeline.runtime.workers.spec import Pipe

ANSWER_S: Final = 120.0  # that a switch may take: a source may hang for its timeout_s


@dataclass(frozen=True, slots=True)
class SwitchRequest:
    """A switch is to be set."""

    number: int
    stream: str
    what: Switch
    on: bool


@dataclass(frozen=True, slots=True)
class SwitchAnswer:
    """What became of that."""

    number: int
    refusal: str | None  # None: it was done


def locked(pipe: "Pipe[Any, Any]") -> Callable[[object], None]:
    """Return what writes to a pipe for several threads, one at a time."""
    lock = threading.Lock()

    def say(message: object) -> None:
        with lock:
            pipe.send(message)

    return say


class AskedSwitches:
    """The switches, seen from the process that publishes. Any thread may ask.

    Args:
        pipe: to the process that started this one.
        say: writes to it, as :func:`locked` does.
        table: what every process knows of the streams.
    """

    def __init__(self, pipe: "Pipe[Any, Any]", say: Callable[[object], None], table: StreamTable) -> None:
        self._pipe, self._say, self._table = pipe, say, table
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[str | None]] = {}
        self._next = 0

    def listen(self) -> None:
        """Take in answers from here on; nobody else reads the pipe any more."""
        threading.Thread(target=self._read, name="answers", daemon=True).start()

    def switch(self, stream: str, what: Switch, on: bool) -> None:
        """Ask for a switch, and wait; ConfigError where that was refused."""
        answer: Future[str | None] = Future()
        with self._lock:
            number, self._next = self._next, self._next + 1
            self._waiting[number] = answer
        try:
            self._say(SwitchRequest(number, stream, what, on))
            refusal = answer.result(ANSWER_S)
        except (OSError, TimeoutError):
            refusal = f"stream {stream!r} was not switched: the run does not answer"
        finally:
            with self._lock:
                del self._waiting[number]
        if refusal is not None:
            raise ConfigError(refusal)

    def is_on(self, stream: str, what: Switch) -> bool:
        """What was noted last."""
        return self._table.is_on(stream, what)

    def _read(self) -> None:
        with suppress(EOFError, OSError):  # the run is over
            while True:
                said = self._pipe.recv()
                if isinstance(said, SwitchAnswer):
                    with self._lock:
                        waiting = self._waiting.get(said.number)
                    if waiting is not None:
                        waiting.set_result(said.refusal)


def answer(asked: SwitchRequest, switches: StreamSwitches, pipe: "Pipe[Any, Any]") -> None:
    """Set a switch and say what became of it, in a thread of its own: the processes are watched meanwhile."""

    def carry_out() -> None:
        refusal = None
        try:
            switches.switch(asked.stream, asked.what, asked.on)
        except TrunklineError as error:
            refusal = str(error)
        with suppress(OSError):  # who asked is gone
            pipe.send(SwitchAnswer(asked.number, refusal))

    threading.Thread(target=carry_out, name="switching", daemon=True).start()
