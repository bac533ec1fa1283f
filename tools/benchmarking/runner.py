"""A pipeline in a process of its own: what is measured of it has nothing of the benchmark in it."""

import multiprocessing
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, Final, Self

from engines.errors import StageError, TrunklineError
from pipeline.runtime.logs import LogSettings, configure_logging, log_settings
from pipeline.service.run import run
from pipeline.settings.schema import Config
from pipeline.sources.capture import Capture, capture

START_S: Final = 120.0  # to open an engine and bind, on a slow machine
END_S: Final = 90.0  # for the frames on their way, and the books
LEAVE_S: Final = 5.0  # to end once the books are here

Said = str | dict[str, Any] | BaseException  # an address, the books, or what went wrong


class PipelineProcess:
    """Runs a configuration from ``start`` to ``finish``; leaving the ``with`` ends it in any case."""

    def __init__(self, config: Config, source: Capture = capture) -> None:
        # A fresh interpreter, since a fork would share the threads and sockets of this one; and no daemon, since those
        # may have no children.
        context = multiprocessing.get_context("spawn")
        self._said, says = context.Pipe(duplex=False)
        told, self._tell = context.Pipe(duplex=False)
        self._process: BaseProcess = context.Process(target=_run, args=(config, source, _quiet(), told, says))
        self._ends = (told, says)

    def start(self) -> str:
        """Begin; returns the address of the results socket, where the run waits for a subscriber.

        Raises:
            TrunklineError: what the run itself raises.
        """
        self._process.start()
        for end in self._ends:
            end.close()  # the child has its own; without these its death is noticed, and ours there
        address = self._hear(START_S)
        assert isinstance(address, str)
        return address

    @property
    def pid(self) -> int:
        """Of the process with the pipeline in it."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def over(self) -> bool:
        """Whether the run ended by itself, or died."""
        return self._said.poll() or not self._process.is_alive()

    def stop(self) -> None:
        """Ask the run to end."""
        self._tell.close()

    def books(self) -> dict[str, Any]:
        """What ``trunkline run --json`` prints of the run, once it is over.

        Raises:
            TrunklineError: what the run itself raises.
        """
        books = self._hear(END_S)
        assert isinstance(books, dict)
        return books

    def _hear(self, within_s: float) -> Said:
        if not self._said.poll(within_s):
            raise StageError(f"the pipeline that is measured said nothing within {within_s:g} s")
        try:
            said: Said = self._said.recv()
        except EOFError:
            raise StageError("the pipeline that is measured died") from None
        if isinstance(said, BaseException):
            raise said
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
        self._said.close()
        if self._process.pid is not None:
            self._process.join(LEAVE_S)
            self._process.terminate()
            self._process.join(LEAVE_S)
            self._process.kill()
            self._process.join()


def _quiet() -> LogSettings:
    """As lines are written here, without what many streams say of themselves while all is well."""
    own = log_settings() or LogSettings()
    return replace(own, level="warning") if own.level in ("debug", "info") else own


def _run(
    config: Config,
    source: Capture,
    logs: LogSettings,
    told: "Connection[Any, Any]",
    says: "Connection[Said, Said]",
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C is for whoever started this, and ends it
    configure_logging(logs)
    stop = threading.Event()
    threading.Thread(target=_await_end, args=(told, stop), daemon=True).start()
    try:
        summary = run(config, stop=stop, wait_for_subscriber_s=START_S, started=says.send, source=source)
        _say(says, summary.to_json())
    except TrunklineError as error:
        _say(says, error)


def _await_end(told: "Connection[Any, Any]", stop: threading.Event) -> None:
    """Stop the run once the other end is closed, as it also is when the benchmark dies."""
    try:
        told.recv()
    except (EOFError, OSError):
        stop.set()


def _say(says: "Connection[Said, Said]", what: Said) -> None:
    with suppress(OSError):  # nobody wants to hear it any more
        says.send(what)
