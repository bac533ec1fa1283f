"""How long the engine will take, when the next frame is due, and how busy the engine is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching.forecast import MAX_LOAD, RUNS, SURE_RUNS, ArrivalEstimator, EngineTimes, Load


def learned(*runs: tuple[int, float]) -> EngineTimes:
    times = EngineTimes()
    for size, ns in runs:
        times.add(size, ns)
    return times


def test_before_the_first_run_nothing_is_known() -> None:
    assert EngineTimes().of(4) == EngineTimes().saving(4) == 0.0


def test_a_batch_of_no_frames_takes_no_time() -> None:
    assert learned((4, 900.0), (1, 500.0)).of(0) == 0.0


def test_of_one_size_alone_no_saving_follows() -> None:
    times = learned((4, 400.0))
    assert (times.of(1), times.of(8)) == (100.0, 800.0)
    assert times.saving(1) == 0.0


def test_sizes_that_never_ran_lie_on_the_line_through_the_others() -> None:
    times = learned(*[(1, 300.0), (3, 500.0)] * 3)
    assert times.of(2) == pytest.approx(400.0)
    assert times.of(8) == pytest.approx(1000.0)


def test_an_engine_for_which_smaller_batches_take_longer_gets_no_slope_below_0() -> None:
    times = learned(*[(1, 900.0), (8, 500.0)] * 3)
    assert times.of(1) == 900.0
    assert 500.0 <= times.of(5) <= 900.0


def test_one_run_that_the_machine_held_up_changes_nothing() -> None:
    runs = [(1, 300.0), (2, 400.0)] * 10
    times = learned(*runs, (1, 1e6), (2, 1e6))
    assert (times.of(1), times.of(2)) == (300.0, 400.0)
    assert times.of(3) == pytest.approx(500.0, rel=0.01)


def test_an_engine_that_became_slower_is_known_soon() -> None:
    assert learned(*[(1, 300.0)] * 100, *[(1, 900.0)] * 40).of(1) == 900.0


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from([1.0, 2.0, 5.0, 9.0])), min_size=1, max_size=200))
def test_only_the_latest_runs_count_and_of_a_size_that_ran_often_their_median(runs: list[tuple[int, float]]) -> None:
    times = learned(*runs)
    latest = runs[-RUNS:]
    for size in range(1, 5):
        took = sorted(ns for each, ns in latest if each == size)
        if len(took) >= SURE_RUNS:
            assert times.of(size) == took[len(took) // 2]
        else:
            assert times.of(size) == learned(*latest).of(size)


@given(st.lists(st.tuples(st.integers(1, 8), st.floats(1.0, 1e9)), max_size=40), st.integers(1, 8))
def test_times_are_never_below_0_and_nothing_is_saved_that_is_not_spent(
    runs: list[tuple[int, float]], size: int
) -> None:
    times = learned(*runs)
    assert times.of(size) >= 0.0
    assert 0.0 <= times.saving(size) <= times.of(size) + times.of(1) + 1e-6


def beaten(*times_ns: int) -> ArrivalEstimator:
    arrivals = ArrivalEstimator()
    for time_ns in times_ns:
        arrivals.beat(time_ns)
    return arrivals


def test_of_a_stream_with_one_frame_nobody_knows_when_the_next_is_due() -> None:
    assert beaten().due_ns == beaten(5).due_ns == math.inf


def test_the_next_frame_is_due_after_the_usual_gap_and_missing_soon_after() -> None:
    arrivals = beaten(*range(0, 400_000_000, 40_000_000))
    assert arrivals.due_ns == 400_000_000
    assert 400_000_000 < arrivals.missing_ns < 401_000_000


def test_a_stream_that_comes_in_bursts_has_stalled_only_when_no_burst_comes() -> None:
    arrivals = beaten(0, 1, 2, 40_000_000, 40_000_001, 40_000_002)
    assert arrivals.missing_ns < 41_000_000
    assert arrivals.stalled_ns > 80_000_000


def test_one_gap_does_not_change_the_rhythm() -> None:
    assert beaten(0, 40, 80, 120, 1000, 1040).due_ns == 1080


def test_a_stream_that_jitters_may_be_later() -> None:
    steady, jittery = beaten(0, 40, 80, 120, 160), beaten(0, 30, 80, 105, 160)
    assert jittery.missing_ns - jittery.due_ns > steady.missing_ns - steady.due_ns


def test_the_load_is_the_share_of_the_time_that_is_busy() -> None:
    load = Load()
    assert load.share == 0.0
    for _ in range(10):
        load.add(2.0, 5.0)
    assert load.share == pytest.approx(0.4)
    for _ in range(500):
        load.add(5.0, 5.0)
    assert load.share == MAX_LOAD
