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
from tools.soaking.judge import CALM, Outcome, Soak, missing, pace, slopes, told
from tools.soaking.latency import calm_spells, compared
from tools.soaking.trunkline import Sample, Trunkline, unaccounted

QUIET, BROKEN = "quiet", "broken"  # the streams: one that is left alone, one whose source is broken
BEFORE_S: Final = 60.0  # with which the time of a fault is compared
FIRST_S: Final = 120.0  # for the first frames
WELL_S: Final = 60.0  # in which all must be well again ...
PAGE_S: Final = 180.0  # ... and the page, whose server may have to start anew
CALM_S: Final = (4.0, 8.0)  # between two faults
EARLY_S: Final = 0.5  # an event that was heard so shortly before a fault may still wait for the store
SAMPLE_S: Final = 1.0
WARM_S: Final = 300.0  # in which every part has run, and what it keeps is there
SPARE_S: Final = 600.0  # after which the run ends by itself


def run_soak(
    seconds: float,
    seed: int,
    model: str,
    links: Literal["queue", "zmq"],
    faults: Sequence[Fault] = FAULTS,
    tell: Callable[[str], None] = lambda sentence: None,
    stop: threading.Event | None = None,
) -> Soak:
    """Run a Trunkline for so long, break it again and again, and return what was found.

    Without faults it is left alone. Each fault comes once before any comes twice. Once ``stop`` is set it ends, after
    the fault that is there now, and what was found until then is returned.

    Raises:
        StageError: the run did not start, or ended.
    """
    chance, stop = random.Random(seed), stop or threading.Event()
    able = [fault for fault in faults if links == "zmq" or not fault.processes]
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-soak-") as folder,
        Camera(seed) as quiet,
        Camera(seed + 1) as broken,
    ):
        streams = {QUIET: quiet.address, BROKEN: broken.address}
        with Trunkline(Path(folder), streams, model, links, seconds + SPARE_S) as trunkline:
            wait_until(lambda: all(trunkline.frames[name] for name in streams), FIRST_S)
            wait_until(trunkline.page_answers, PAGE_S)
            began_s = time.monotonic()
            sampler = _Sampler(trunkline)
            first = trunkline.commands()
            outcomes: list[Outcome] = []
            waiting: list[Fault] = []
            try:
                while (left_s := began_s + seconds - time.monotonic()) > 0.0 and trunkline.process.poll() is None:
                    if stop.wait(min(chance.uniform(*CALM_S), left_s)):
                        break
                    if able and time.monotonic() < began_s + seconds:
                        waiting = waiting or chance.sample(able, len(able))
                        outcomes.append(_try(waiting.pop(), Bench(trunkline, broken, chance), began_s))
                        tell(_sentence(outcomes[-1]))
            finally:
                sampler.stop()
            more = Counter(trunkline.commands()) - Counter(first)
            return _judged(trunkline, outcomes, sampler.samples, began_s, (seed, links, model), sorted(more.elements()))


def _try(fault: Fault, bench: Bench, began_s: float) -> Outcome:
    trunkline = bench.trunkline
    at_s, log_place = time.monotonic(), trunkline.log_size()
    before = pace(trunkline.frames[QUIET], max(began_s, at_s - BEFORE_S), at_s)
    fault.breaks(bench)
    if fault.noticed:
        wait_until(lambda: trunkline.told_since(BROKEN, at_s), WELL_S)
    healed_s = time.monotonic()
    within_s = WELL_S + fault.silent_s
    well = wait_until(lambda: all(trunkline.up(name, healed_s) for name in (QUIET, BROKEN)), within_s)
    page = wait_until(trunkline.page_answers, PAGE_S)
    recovered_s = None if well is None or page is None else well + page
    now_s = time.monotonic()
    trunkline.note_stored()
    return Outcome(
        fault=fault.name,
        room=fault.room,
        at_s=round(at_s - began_s, 1),
        until_s=round(now_s - began_s, 1),
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
    trunkline: Trunkline,
    outcomes: list[Outcome],
    samples: list[Sample],
    began_s: float,
    of: tuple[int, str, str],
    more: list[str],
) -> Soak:
    ended_s = time.monotonic()
    quiet = list(trunkline.frames[QUIET])
    summary = trunkline.stop()
    stored = trunkline.stored()
    seed, links, model = of
    spells = calm_spells([(each.at_s, each.until_s) for each in outcomes], ended_s - began_s)
    latency = compared([(each.at_s - began_s, each.total_ms) for each in quiet], spells, ended_s - began_s, seed)
    machine = compared([(each.at_s - began_s, each.work_ms) for each in samples], spells, ended_s - began_s, seed)
    late = [(begin_s, end_s) for begin_s, end_s in spells if begin_s >= WARM_S]
    still = [each for each in samples if any(begin_s <= each.at_s - began_s < end_s for begin_s, end_s in late)]
    lacking = [heard for heard in trunkline.events if heard.event not in stored]
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
        unstored=len(lacking),
        unstored_in=dict(Counter(_when(heard.at_s - began_s, outcomes) for heard in lacking)),
        forgotten=len(trunkline.acknowledged - stored),
        told_unstored=sum(summary["sinks"]["store"]["lost"].values()),
        events=len(trunkline.events),
        refused=trunkline.refused,
        latency=latency,
        machine=machine,
        more_processes=more,
        slopes=slopes(still) if still else {},
        samples=samples,
    )


def _when(at_s: float, outcomes: Sequence[Outcome]) -> str:
    """The fault in whose time a moment is; CALM where it is in none."""
    return next((each.fault for each in outcomes if each.at_s - EARLY_S <= at_s <= each.until_s), CALM)


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
