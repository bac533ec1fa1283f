"""The page's server as a process of its own, which a run starts, and starts again when it ends."""

import subprocess
import threading
import time
from collections.abc import Sequence
from typing import Final

import structlog

FIRST_WAIT_S: Final = 1.0  # before it is started again, doubled each time ...
LAST_WAIT_S: Final = 30.0  # ... up to this
HEALTHY_S: Final = 60.0  # a server that ran for so long is started again at once
END_S: Final = 5.0  # to end by itself

log = structlog.get_logger()


class PageProcess:
    """Keeps a command running until it is stopped; nothing waits for it.

    Args:
        command: that serves the page.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = list(command)
        self._stop = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # of the process: none is started once it is stopped
        self._thread = threading.Thread(target=self._run, name="page", daemon=True)

    @property
    def pid(self) -> int | None:
        """Return the number of the process that serves now; None before the first."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Let it serve."""
        self._thread.start()

    def stop(self) -> None:
        """End it; kill it where it does not."""
        self._stop.set()
        with self._lock:
            process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stop.is_set():
            began_s = time.monotonic()
            cause = self._serve()
            if self._stop.is_set():
                return
            wait_s = FIRST_WAIT_S if time.monotonic() - began_s > HEALTHY_S else wait_s
            log.warning("page ended and is started again", cause=cause, after_s=wait_s)
            self._stop.wait(wait_s)
            wait_s = min(2 * wait_s, LAST_WAIT_S)

    def _serve(self) -> str:
        """Run the command to its end; why it ended."""
        try:
            with self._lock:
                if self._stop.is_set():
                    return "it was stopped"
                # A session of its own: ctrl-C is for the run, which ends the page last.
                self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
        except OSError as error:
            return f"it cannot be started: {error.strerror}"
        code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit status {code}"
