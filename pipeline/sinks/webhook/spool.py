"""What was not delivered yet: a file each in a folder, which outlives the program."""

import fcntl
import os
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import structlog

from engines.errors import ConfigError
from engines.files import write_whole
from engines.undecodable import UNDECODABLE
from pipeline.sinks.webhook.body import Body

MB: Final = 1_000_000  # bytes
SUFFIX: Final = ".delivery"

log = structlog.get_logger()


class Delivery(msgspec.Struct, frozen=True):
    """One request that has to arrive."""

    id: str
    at_ns: int  # Unix time of the event's being taken
    body: Body


_decoder = msgspec.msgpack.Decoder(Delivery)


class Spool:
    """Deliveries in the order in which they came. Thread-safe; one program at a time.

    A delivery is on disk once :meth:`put` returns (it outlives ``kill -9``, not a power cut), until :meth:`done`.

    Args:
        folder: made when it is missing, for its owner alone.
        max_waiting: deliveries at the most; the oldest is lost beyond that, and counted: ``full``.
        max_bytes: of all of them at the most, likewise.

    Raises:
        ConfigError: the folder cannot be used.
    """

    def __init__(self, folder: Path, max_waiting: int, max_bytes: int) -> None:
        self._folder, self._max_waiting, self._max_bytes = folder, max_waiting, max_bytes
        self._changed = threading.Condition()
        self._closed = False
        self._lost: Counter[str] = Counter()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(f".*{SUFFIX}.*.part"):
                left.unlink(missing_ok=True)  # of a program that was killed while it wrote
            self._sizes = {path.name: path.stat().st_size for path in sorted(folder.glob(f"*{SUFFIX}"))}
            probe = folder / ".probe"
            write_whole(probe, b"")
            probe.unlink()
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(
                f"spool is {str(folder)!r}, which another sink uses; each needs a folder of its own"
            ) from None
        except OSError as error:
            raise ConfigError(f"spool is {str(folder)!r}, which cannot be used: {error.strerror}") from None
        self._next = 1 + max((int(name.partition(".")[0]) for name in self._sizes if name[0].isdigit()), default=0)

    def put(self, delivery: Delivery) -> None:
        """Keep a delivery; OSError where the disk does not take it."""
        content = msgspec.msgpack.encode(delivery)
        with self._changed:
            name = f"{self._next:016d}{SUFFIX}"
            path = self._folder / name
            write_whole(path, content)
            path.chmod(0o600)
            self._next += 1
            self._sizes[name] = len(content)
            while len(self._sizes) > self._max_waiting or sum(self._sizes.values()) > self._max_bytes:
                self._remove(next(iter(self._sizes)))
                self._lost["full"] += 1
            self._changed.notify_all()

    def first(self) -> tuple[str, Delivery] | None:
        """Wait for a delivery; return the oldest, under its name here, or None once the spool is closed."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._sizes or self._closed)
                if self._closed:
                    return None
                name = next(iter(self._sizes))
                try:
                    return name, _decoder.decode((self._folder / name).read_bytes())
                except (OSError, *UNDECODABLE):
                    log.warning("webhook delivery cannot be read and is lost", file=name)
                    self.lose(name, "unreadable")

    def done(self, name: str) -> None:
        """A delivery has arrived."""
        with self._changed:
            self._remove(name)

    def lose(self, name: str, cause: str) -> None:
        """A delivery is given up, and counted; nothing happens to one that is not there any more."""
        with self._changed:
            if name in self._sizes:
                self._remove(name)
                self._lost[cause] += 1

    def wait(self, seconds: float) -> bool:
        """Wait so long; False at once when the spool is closed."""
        end = time.monotonic() + seconds
        with self._changed:
            while not self._closed and (left := end - time.monotonic()) > 0.0:
                self._changed.wait(left)
            return not self._closed

    def drain(self, seconds: float) -> None:
        """Wait until all has been delivered, for so long at the most."""
        end = time.monotonic() + seconds
        while self.waiting and time.monotonic() < end:
            time.sleep(0.02)

    def close(self) -> None:
        """Let whoever waits go; what is there stays for the next run."""
        with self._changed:
            if not self._closed:
                os.close(self._lock)
            self._closed = True
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many deliveries there are."""
        with self._changed:
            return len(self._sizes)

    @property
    def lost(self) -> dict[str, int]:
        """How many deliveries were given up, by cause."""
        with self._changed:
            return dict(self._lost)

    def _remove(self, name: str) -> None:
        if self._sizes.pop(name, None) is not None:
            (self._folder / name).unlink(missing_ok=True)
