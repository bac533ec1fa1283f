"""The books of a run, and where its time went."""

import dataclasses
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.counters import FrameCounters, FrameCounts
from pipeline.frames.stage_times import BOUNDS_S, SCHEMA, Histogram, LatencyHistogram, StageTimes
from pipeline.frames.types import Result, Timestamps
from tests.pipeline.made_results import make_result

GREY = np.full((48, 64, 3), 128, dtype=np.uint8)


def test_a_stream_nobody_has_heard_of_has_empty_books() -> None:
    assert FrameCounters().of("door") == FrameCounts(0, 0, {})


def test_every_frame_is_published_dropped_or_on_its_way() -> None:
    counters = FrameCounters()
    for _ in range(10):
        counters.captured("door")
    counters.captured("yard")
    counters.published("door")
    counters.dropped("door", "stale")
    counters.dropped("door", "stale", 2)
    counters.dropped("door", "crash")
    assert counters.of("door") == FrameCounts(10, 1, {"stale": 3, "crash": 1})
    assert counters.of("door").in_flight == 5
    assert counters.of("yard").in_flight == 1


def test_an_account_is_a_copy_and_does_not_change_later() -> None:
    counters = FrameCounters()
    counters.dropped("door", "stale")
    before = counters.of("door")
    counters.dropped("door", "stale")
    assert before.dropped == {"stale": 1}


def test_threads_that_count_at_once_lose_nothing() -> None:
    counters = FrameCounters()

    def count() -> None:
        for _ in range(2000):
            counters.captured("door")
            counters.dropped("door", "stale")

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.of("door") == FrameCounts(8000, 0, {"stale": 8000})


def histogram_of(*latencies_ms: float) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for ms in latencies_ms:
        histogram.add(ms)
    return histogram


def test_without_latencies_everything_is_0() -> None:
    assert histogram_of().summary() == {"p50": 0.0, "p90": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}


def test_one_latency_is_every_quantile() -> None:
    summary = histogram_of(12.34).summary()
    assert list(summary.values()) == pytest.approx([12.34] * 5, rel=0.02)
    assert summary["max"] == 12.34


@pytest.mark.parametrize("ms", [0.0, -1.0, 1e-9])
def test_a_latency_too_short_to_measure_counts_as_the_shortest(ms: float) -> None:
    histogram = histogram_of(ms)
    assert histogram.count == 1
    assert 0.0 <= histogram.quantile(0.5) <= LatencyHistogram.MIN_MS


def test_an_outlier_shows_in_the_tail_alone() -> None:
    summary = histogram_of(*[10.0] * 98, *[500.0] * 2).summary()
    assert summary["p95"] == pytest.approx(10.0, rel=0.02)
    assert summary["p99"] == pytest.approx(500.0, rel=0.02)


@given(st.lists(st.floats(0.001, 1e6), min_size=1, max_size=300), st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_quantiles_are_within_2_percent_of_the_exact_ones(latencies: list[float], share: float) -> None:
    exact = np.quantile(latencies, share, method="inverted_cdf")
    assert histogram_of(*latencies).quantile(share) == pytest.approx(exact, rel=0.02)


def test_a_long_run_needs_no_more_memory_than_a_short_one() -> None:
    histogram = histogram_of(*np.random.default_rng(1).lognormal(2, 2, 20_000))
    assert histogram.count == 20_000
    assert len(histogram._buckets) < 1200  # from a microsecond to hours, 2 % apart


def timed(*marks_ms: float) -> Result:
    """A frame that was captured at 100 s and passed its steps so many milliseconds later."""
    began = 100_000_000_000
    taken, ready, started, ended, finished = (began + round(ms * 1e6) for ms in marks_ms)
    result = make_result(GREY)
    frame = dataclasses.replace(result.frame, clock_ns=began)
    timestamps = Timestamps(taken, ready, started, ended)
    return dataclasses.replace(result, frame=frame, timestamps=timestamps, finished_ns=finished)


def test_the_steps_follow_each_other_and_add_up_to_the_total() -> None:
    times = StageTimes()
    times.add(timed(1, 3, 7, 15, 31))
    worst = {step: figures["max"] for step, figures in times.summary().items()}
    assert worst == {"wait": 1.0, "preprocess": 2.0, "queue": 4.0, "infer": 8.0, "post": 16.0, "total": 31.0}


def test_the_times_of_a_run_without_frames() -> None:
    assert {figures["p50"] for figures in StageTimes().summary().values()} == {0.0}


def test_frames_whose_batch_began_together_are_one_batch() -> None:
    times = StageTimes()
    for started_ms in (5, 5, 5, 9, 12, 12, 12, 20):
        times.add(timed(1, 3, started_ms, 25, 31))
    assert times.batches() == {1: 2, 3: 2}


def test_batches_are_counted_on_from_where_another_has_stopped_and_those_beyond_its_room_as_the_largest() -> None:
    counts = np.zeros(3, np.int64)
    for _ in range(2):
        times = StageTimes(counts)
        for started_ms in (5, 6, 6, 7, 7, 7):
            times.add(timed(1, 3, started_ms, 25, 31))
    assert times.batches() == {1: 2, 2: 4}


def test_a_run_without_frames_had_no_batches() -> None:
    assert StageTimes().batches() == {}


@given(st.lists(st.floats(0.001, 1e5), max_size=200))
def test_buckets_of_metrics_are_exact_to_1_percent_of_their_bounds(latencies: list[float]) -> None:
    found = histogram_of(*latencies).within_bounds()
    for bound_s, within in zip(BOUNDS_S, found.cumulative, strict=True):
        least, most = (sum(ms <= 1000 * bound_s * factor for ms in latencies) for factor in (1 / 1.011, 1.011))
        assert least <= within <= most
    upper = [2.0 ** (index / 2**SCHEMA) for index in sorted(found.native) for _ in range(found.native[index])]
    for ms, bound_s in zip(sorted(latencies), upper, strict=True):
        assert bound_s / 2 ** (1 / 2**SCHEMA) / 1.011 < ms / 1000 < bound_s * 1.011
    assert found.count == len(latencies)
    assert found.sum_s == pytest.approx(sum(latencies) / 1000)


def test_a_copy_of_times_does_not_change_while_frames_come() -> None:
    times = StageTimes()
    times.add(timed(1, 3, 7, 15, 31))
    work_out = times.copy()
    times.add(timed(1, 3, 8, 15, 31))
    told = work_out()
    assert {histogram.count for histogram in told.stages.values()} == {1}
    assert told.stages["total"].sum_s == pytest.approx(0.031)


def test_the_engine_is_timed_by_the_batch_and_not_by_the_frame() -> None:
    times = StageTimes()
    for _ in range(4):
        times.add(timed(1, 3, 5, 15, 31))
    times.add(timed(1, 3, 20, 25, 31))
    told = times.copy()()
    assert told.engine.count == 2
    assert told.engine.sum_s == pytest.approx(0.015)
    assert told.stages["infer"].count == 5


def test_without_frames_histograms_are_empty() -> None:
    assert StageTimes().copy()().engine == Histogram()


def test_a_stream_that_comes_up_after_it_was_down_is_a_reconnect() -> None:
    counters = FrameCounters()
    told = []
    for state in ("up", "down", "down", "up", "down", "ended"):
        counters.told("door", state)
        told.append((counters.state("door").state, counters.state("door").reconnects))
    assert told == [("up", 0), ("down", 0), ("down", 0), ("up", 1), ("down", 1), ("ended", 1)]
    assert counters.state("yard").state is None
