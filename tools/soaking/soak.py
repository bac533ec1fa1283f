"""A soak: a whole Trunkline for hours, with faults by a seed."""

import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Literal

from tools.soaking.camera import Camera, wait_until
from tools.soaking.faults import FAULTS, Bench, Fault
from tools.soaking.judge import Outcome, Soak, missing, pace, percentile, slopes, told
from tools.soaking.trunkline import Sample, Trunkline, unaccounted

QUIET, BROKEN = "quiet", "broken"  # the streams: one that is left alone, one whose source is broken
BEFORE_S: Final = 60.0  # with which the time of a fault is compared
FIRST_S: Final = 120.0  # for the first frames
WELL_S: Final = 60.0  # in which all must be well again
CALM_S: Final = (4.0, 8.0)  # between two faults
SAMPLE_S: Final = 1.0


def run_soak(
    seconds: float,
    seed: int,
    model: str,
    links: Literal["queue", "zmq"],
    faults: Sequence[Fault] = FAULTS,
    tell: Callable[[str], None] = lambda sentence: None,
) -> Soak:
    """Run a Trunkline for so long, break it again and again, and return what was found.

    Without faults it is left alone. Each fault comes once before any comes twice.

    Raises:
        StageError: the run did not start, or ended.
    """
    chance = random.Random(seed)
    able = [fault for fault in faults if links == "zmq" or not fault.processes]
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-soak-") as folder,
        Camera(seed) as quiet,
        Camera(seed + 1) as broken,
    ):
        streams = {QUIET: quiet.address, BROKEN: broken.address}
        with Trunkline(Path(folder), streams, model, links) as trunkline:
            wait_until(lambda: all(trunkline.frames[name] for name in streams), FIRST_S)
            began_s = time.monotonic()
            sampler = _Sampler(trunkline)
            outcomes: list[Outcome] = []
            waiting: list[Fault] = []
            try:
                while time.monotonic() < began_s + seconds and trunkline.process.poll() is None:
                    time.sleep(min(chance.uniform(*CALM_S), max(0.0, began_s + seconds - time.monotonic())))
                    if able and time.monotonic() < began_s + seconds:
                        waiting = waiting or chance.sample(able, len(able))
                        outcomes.append(_try(waiting.pop(), Bench(trunkline, broken, chance), began_s))
                        tell(_sentence(outcomes[-1]))
            finally:
                sampler.stop()
            return _judged(trunkline, outcomes, sampler.samples, began_s, (seed, links, model))


def _try(fault: Fault, bench: Bench, began_s: float) -> Outcome:
    trunkline = bench.trunkline
    at_s, log_place = time.monotonic(), trunkline.log_size()
    before = pace(trunkline.frames[QUIET], max(began_s, at_s - BEFORE_S), at_s)
    fault.breaks(bench)
    healed_s = time.monotonic()
    recovered_s = wait_until(lambda: all(trunkline.up(name, healed_s) for name in (QUIET, BROKEN)), WELL_S)
    now_s = time.monotonic()
    return Outcome(
        fault=fault.name,
        room=fault.room,
        at_s=round(at_s - began_s, 1),
        recovered_s=recovered_s,
        before=before,
        during=pace(trunkline.frames[QUIET], at_s, now_s),
        missing=missing(trunkline.frames[QUIET], at_s),
        told=told(trunkline, BROKEN, at_s, log_place),
    )


def _sentence(outcome: Outcome) -> str:
    after = "did not come back" if outcome.recovered_s is None else f"well after {outcome.recovered_s:.1f} s"
    return f"{outcome.at_s:7.1f} s  {outcome.fault}: {after}; other stream's longest gap {outcome.during.gap_s:.1f} s"


def _judged(
    trunkline: Trunkline, outcomes: list[Outcome], samples: list[Sample], began_s: float, of: tuple[int, str, str]
) -> Soak:
    ended_s = time.monotonic()
    quiet = list(trunkline.frames[QUIET])
    summary = trunkline.stop()
    stored = trunkline.stored()
    seed, links, model = of
    third_s = (ended_s - began_s) / 3
    parts = [
        percentile([each.total_ms for each in quiet if from_s <= each.at_s < from_s + third_s])
        for from_s in (began_s, ended_s - third_s)
    ]
    lost: Counter[str] = Counter()
    for book in summary["streams"].values():
        lost.update(book["dropped"])
    return Soak(
        seed=seed,
        seconds=round(ended_s - began_s, 1),
        links=links,
        model=model,
        outcomes=outcomes,
        unaccounted=unaccounted(summary),
        lost=dict(lost),
        captured=sum(book["captured"] for book in summary["streams"].values()),
        unstored=sum(event not in stored for event in trunkline.events),
        events=len(trunkline.events),
        refused=trunkline.refused,
        quiet_first_ms=parts[0],
        quiet_last_ms=parts[1],
        slopes=slopes(samples) if samples else {},
        samples=samples,
    )


class _Sampler:
    """Looks at the processes of a run every second, in a thread."""

    def __init__(self, trunkline: Trunkline) -> None:
        self.samples: list[Sample] = []
        self._trunkline, self._over = trunkline, threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.samples.append(self._trunkline.sample())

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
