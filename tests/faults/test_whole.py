"""A whole Trunkline, as its users run it, under a handful of faults; ``trunkline soak`` tries all, for hours."""

import json
import re
import threading
from pathlib import Path

import pytest

from tools.soaking import faults, soak
from tools.soaking.faults import FAULTS
from tools.soaking.judge import CALM, Outcome, Pace, Soak, missing, pace, problems, slope
from tools.soaking.latency import calm_spells, compared, verdict
from tools.soaking.pages import draw, page_of, values_of
from tools.soaking.trunkline import Sample, Seen, unaccounted

QUICK = ("cut in the middle of a frame", "picture size changed", "200 connections that send rubbish", "disk full")
PATIENCE_S = 200.0
ROOT = Path(__file__).parents[2]
WELL = Pace(10.0, 0.2)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "BREAK_S", 0.6)
    monkeypatch.setattr(soak, "CALM_S", (0.2, 0.4))


def made(**changes: object) -> Soak:
    outcome = Outcome("cut", "source", 1.0, 2.0, 0.5, WELL, WELL, 0, ("down: the source | ended",))
    samples = [Sample(float(second), 100.0, 10.0, 20, 30, 5, 1.0) for second in range(200)]
    values = {
        **{"seed": 1, "seconds": 200.0, "links": "queue", "model": "n", "outcomes": [outcome], "unaccounted": 0},
        **{"lost": {"stale": 2}, "captured": 100, "unstored": 0, "told_unstored": 0, "events": 7, "refused": 0},
        **{
            "unstored_in": {},
            "forgotten": 0,
            "latency": None,
            "machine": None,
            "more_processes": [],
            "samples": samples,
        },
        "slopes": {"memory_mb": slope(range(400), [100.0] * 400)},
    }
    return Soak(**values | changes)  # type: ignore[arg-type]


@pytest.mark.integration
def test_a_whole_run_under_faults_loses_nothing_that_is_not_told(hurried: None, tmp_path: Path) -> None:
    from tests.pipeline.made_runs import write_model

    chosen = [fault for fault in FAULTS if fault.name.startswith(QUICK)]
    assert len(chosen) == len(QUICK)
    said: list[str] = []
    stop = threading.Event()

    def tell(sentence: str) -> None:
        said.append(sentence)
        if len(said) == len(QUICK):
            stop.set()

    found = soak.run_soak(PATIENCE_S, 1, str(write_model(tmp_path).path), "queue", chosen, tell, stop)
    assert len(said) == len(found.outcomes) == len(QUICK)
    assert problems(found) == []
    assert found.captured > 100 and found.events > 0
    told = {outcome.fault: " ".join(outcome.told) for outcome in found.outcomes}
    assert "the picture size changed" in told["picture size changed"]
    assert "down: " in told["cut in the middle of a frame"]
    assert all(outcome.missing == 0 for outcome in found.outcomes)


def test_what_does_not_hold_is_a_problem() -> None:
    gone = Outcome("cut", "source", 1.0, 61.0, None, WELL, Pace(None, 60.0), 3, ())
    grows = {"memory_mb": slope(range(400), [100.0 + second for second in range(400)])}
    assert problems(made()) == []
    assert problems(made(unaccounted=1)) == ["1 frames are unaccounted for"]
    (untold,) = problems(made(unstored=3, told_unstored=1))
    assert untold == "2 events that subscribers heard are not in the store, and it was not told"
    assert problems(made(outcomes=[gone])) == ["cut: not all was well again in time"]
    assert problems(made(slopes=grows)) == ["memory_mb grows: 3600.0 an hour (3600.0 to 3600.0)"]


def test_a_slope_has_an_interval_that_noise_widens() -> None:
    noise = [100.0 + (second * 7919 % 13) for second in range(400)]
    flat = slope(range(400), noise)
    assert flat.low < 0.0 < flat.high
    assert slope([0.0, 1.0], [1.0, 2.0]).high == float("inf")


def test_an_event_that_is_gone_is_a_problem_unless_a_fault_explains_it() -> None:
    assert problems(made(unstored=2, told_unstored=2, unstored_in={"disk full": 2})) == []
    (calm,) = problems(made(unstored=1, told_unstored=1, unstored_in={CALM: 1}))
    assert calm == "1 events that subscribers heard while no fault was there are not in the store"
    assert problems(made(forgotten=1)) == ["1 events that were in the store are not there any more"]
    assert problems(made(more_processes=["python"])) == ["processes that were not there in the beginning: python"]


def test_latency_is_judged_by_its_interval() -> None:
    spells = calm_spells([(100.0 * number, 100.0 * number + 10.0) for number in range(1, 30)], 3000.0)
    noise = [(second / 4, 10.0 + second * 7919 % 13) for second in range(12_000)]
    even = compared(noise, spells, 3000.0, 1)
    assert even is not None and even.low <= 1.0 <= even.high and verdict(even) != "not held"
    slower = compared([(at_s, ms * (1.0 + at_s / 3000.0)) for at_s, ms in noise], spells, 3000.0, 1)
    assert slower is not None and slower.low > 1.05 and verdict(slower) == "not held"
    (grew,) = problems(made(latency=slower))
    assert grew.startswith("p99 of the stream that was left alone grew: 1.")
    assert compared(noise, spells[:3], 3000.0, 1) is None


def test_gaps_and_missing_messages_are_seen() -> None:
    seen = [Seen(float(at), number, 10.0) for at, number in ((0, 0), (1, 1), (5, 3), (6, 4))]
    assert pace(seen, 0.0, 6.0) == Pace(10.0, 4.0)
    assert pace([], 0.0, 3.0) == Pace(None, 3.0)
    assert (missing(seen, 0.0), missing(seen, 5.0), missing([], 0.0)) == (1, 0, 0)
    books = {"streams": {"door": {"captured": 9, "published": 6, "dropped": {"stale": 2}}}}
    assert unaccounted(books) == 1


def test_the_page_tells_all_of_it() -> None:
    page = page_of([made(), made(unaccounted=3)], "a machine", "2026-11-29")
    assert "3 frames are unaccounted for" in page and "| cut | source | 2 | 2 | 0.5 / 0.5 |" in page
    assert "down: the source \\| ended" in page
    assert json.dumps(values_of(made()))
    tests = re.findall(r"`(tests/[^`]*\.py)`", page)
    assert len(tests) > 10 and all((ROOT / test).is_file() for test in tests)
    assert draw(made()).startswith(b"\x89PNG")
