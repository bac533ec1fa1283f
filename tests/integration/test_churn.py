"""Streams that come and go, again and again, on a run that goes on: books stay true, memory and threads flat."""

import gc
import os
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from engines.spec import Model
from pipeline.wire.client import Subscriber
from pipeline.wire.messages import EventMessage, FrameMessage, HealthMessage
from tests.pipeline.made_runs import LAST_MESSAGES_S, write_model
from tests.pipeline.service.test_control import Controlled, camera

ROUNDS = int(os.environ.get("TRUNKLINE_CHURN", "16"))
NAMES = [f"cam{number}" for number in range(8)]  # the same again and again, as cameras have
WARM = ROUNDS // 4  # after so many rounds, all that is kept for good is there
ONCE_KB, EACH_KB = 8000, 4.0  # what the allocator may take for itself, and what each round may keep


class Counting(Controlled):
    """A controlled run whose messages are counted and not kept."""

    def __init__(self, model: Model, *names: str, **sections: object) -> None:
        self.published: Counter[str] = Counter()
        self.begun: Counter[tuple[str, str]] = Counter()  # by stream and kind, less what has ended
        self.ends: Counter[str] = Counter()
        self.last: dict[str, HealthMessage] = {}
        super().__init__(model, *names, **sections)

    def flows(self, name: str, count: int = 1) -> None:
        seen = self.published[name]
        self.wait(lambda run: self.published[name] >= seen + count)

    def _read(self, address: str) -> None:
        with Subscriber(address) as subscriber:
            while True:
                message = subscriber.receive(LAST_MESSAGES_S)
                match message:
                    case None if not self._thread.is_alive():
                        return
                    case FrameMessage():
                        self.published[message.stream] += 1
                    case EventMessage(event="new" | "ended"):
                        self.begun[message.stream, message.kind] += 1 if message.event == "new" else -1
                    case HealthMessage():
                        self.ends[message.stream] += message.state == "ended"
                        self.last[message.stream] = message


def resident_kb() -> int:
    """What this process has in memory, once nothing is left that nobody needs."""
    gc.collect()
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmRSS:"))
    return int(line.split()[1])


def waited_s() -> float:
    """How long the threads of this process have waited for a processor, all together (the kernel's schedstat)."""
    waited_ns = 0
    for file in Path("/proc/self/task").glob("*/schedstat"):
        with suppress(OSError):  # a thread that has ended meanwhile
            waited_ns += int(file.read_text().split()[1])
    return waited_ns / 1e9


@pytest.mark.integration
@pytest.mark.timeout(600 + ROUNDS)  # takes 10 s, or many times that in a crowd
def test_a_run_is_as_it_was_after_streams_have_come_and_gone(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """TRUNKLINE_CHURN=1000 adds and removes streams a thousand times, and prints what that cost."""
    record = {"directory": str(tmp_path_factory.mktemp("video")), "min_free_gb": 0.0}
    run = Counting(write_model(tmp_path_factory.mktemp("model")), "door", record=record)
    run.flows("door")
    resident, threads, began, waited = [], [], time.monotonic(), waited_s()
    for number in range(ROUNDS):
        name = NAMES[number % len(NAMES)]
        run.control.add(camera(name))
        if number % 2:
            run.control.switch(name, "record", False)
            run.flows(name)
        run.control.remove(name)
        resident.append(resident_kb())
        threads.append(threading.active_count())
    seconds = time.monotonic() - began
    crowded_s = max(0.0, waited_s() - waited)
    door = run.published["door"]
    summary = run.end_now()
    grown = resident[-1] - resident[WARM]
    if "TRUNKLINE_CHURN" in os.environ:
        quarters = [resident[share * (ROUNDS - 1) // 4] // 1000 for share in range(5)]
        with capsys.disabled():
            print(f"\n{ROUNDS} rounds in {seconds:.0f} s; MB at quarters {quarters}; at most {max(threads)} threads")
    assert list(summary.streams) == ["door", *NAMES]
    for name, account in summary.streams.items():
        assert account.captured == account.published + sum(account.dropped.values()), (name, account)
        assert account.published == run.published[name]
        assert (run.last[name].captured, run.last[name].published) == (account.captured, account.published)
    assert run.ends == {"door": 1} | {name: len(range(row, ROUNDS, len(NAMES))) for row, name in enumerate(NAMES)}
    assert not +run.begun and not -run.begun, "something that began has not ended, or more has"
    assert door > 10 * (seconds - crowded_s), "the stream that stayed was held up"
    assert max(threads) <= threads[0] + 2, "threads stayed"
    assert grown < ONCE_KB + EACH_KB * (ROUNDS - WARM)
