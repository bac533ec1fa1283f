"""The Trunkline that is watched: the console command in a process of its own, its subscriber, its books, its log."""

import json
import os
import signal
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
from pipeline.store.events import EventStore
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage

COMMAND: Final = (sys.executable, "-c", "from tools.main import main; main()", "--log-json")
START_S: Final = 180.0  # to open an engine on a busy machine
END_S: Final = 120.0
LOOK_S: Final = 0.1
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Seen:
    """A frame's message."""

    at_s: float  # time.monotonic() of its arrival
    number: int  # of the stream's messages: seq - sum(dropped)
    total_ms: float  # from capture to message


@dataclass(frozen=True, slots=True)
class Sample:
    """What the processes of a run have, all together, at a moment."""

    at_s: float
    memory_mb: float  # resident, without what is shared
    shared_mb: float  # the largest of any process
    descriptors: int
    threads: int
    processes: int


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
        self.events: list[tuple[str, int, str, str, int | None]] = []
        self.refused = 0  # messages that follow no schema
        self._config(model, links)
        self._log = (folder / "run.log").open("wb")
        options = {"--summary": folder / "run.json", "--wait-for-subscriber": START_S, "--seconds": seconds}
        arguments = [str(each) for option in options.items() for each in option]
        self.process = subprocess.Popen(
            (*COMMAND, "run", str(folder / "run.toml"), *arguments),
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self.address = self._address()
        self._over = threading.Event()
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self._reader.start()

    def _config(self, model: str, links: str) -> None:
        text = [
            f'links = "{links}"',
            f"[model]\npath = {json.dumps(model)}",
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
                    self.health[message.stream].append((time.monotonic(), message))
                elif isinstance(message, EventMessage):
                    self.events.append((message.stream, message.seq, message.event, message.kind, message.track))

    def children(self) -> list[int]:
        """The processes of its stages, which one of its own has forked."""
        found = []
        for pid in _below(self.process.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"multiprocessing.forkserver" in command:  # as of each that it forked, which have forked none
                found += _below(pid)
        return found

    def sample(self) -> Sample:
        """What its processes have now."""
        memory = shared = descriptors = threads = 0
        pids = [self.process.pid, *_below(self.process.pid)]
        for pid in pids:
            try:
                _, resident, common, *_ = map(int, Path(f"/proc/{pid}/statm").read_text().split())
                descriptors += len(os.listdir(f"/proc/{pid}/fd"))
                threads += len(os.listdir(f"/proc/{pid}/task"))
            except (OSError, ValueError):  # it is gone
                continue
            memory, shared = memory + resident - common, max(shared, common)
        mb = PAGE_BYTES / 1e6
        return Sample(time.monotonic(), memory * mb, shared * mb, descriptors, threads, len(pids))

    def up(self, stream: str, since_s: float) -> bool:
        """Whether a frame of a stream has come since then, and its last report does not say that it is down."""
        seen, told = self.frames[stream], self.health[stream]
        return bool(seen) and seen[-1].at_s > since_s and (not told or told[-1][1].state == "up")

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

    def stored(self) -> set[tuple[str, int, str, str, int | None]]:
        """The events in the store: stream, seq, event, kind, track."""
        found, cursor = set(), None
        with EventStore(self.folder / "events") as store:
            while True:
                page = store.page(limit=1000, cursor=cursor)
                for each in page.events:
                    body = json.loads(bytes(each.body))
                    found.add((each.stream, int(body["seq"]), each.event, each.kind, each.track))
                cursor = page.next
                if cursor is None:
                    return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _below(pid: int) -> list[int]:
    """The processes that a process started, and those that they started."""
    try:
        children = [
            int(child)
            for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    except OSError:
        return []
    return [each for child in children for each in (child, *_below(child))]


def unaccounted(summary: dict[str, Any]) -> int:
    """Frames of a summary that were captured, and neither published nor dropped with a cause; 0, or there is a bug."""
    books: Sequence[dict[str, Any]] = list(summary["streams"].values())
    return sum(abs(book["captured"] - book["published"] - sum(book["dropped"].values())) for book in books)
