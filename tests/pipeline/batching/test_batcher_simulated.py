"""Whole sites, simulated: sources, batches and an engine, without waiting."""

from collections import defaultdict
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching.batcher import (
    COMPANY,
    GATHER_SHARE,
    LOST_NS,
    Batcher,
)
from pipeline.sources.rate import RateGate, phase_of
from tests.pipeline.made_clock import MS, Report, Site, Source, Tick, bursty, jittered, linear, regular

LIVE, FILE, BULK = "freshest", "every_frame", "bulk"
CPU = linear(0.25, 0.62)  # ms a batch and ms a frame: a small network on two cores
GPU = linear(1.7, 0.3)  # batches are nearly free
SLOW = linear(2.0, 20.0)
AVX2 = linear(1.0, 5.0)  # without matrix units
STALENESS_NS = 50 * MS


def cameras(count: int, fps: float = 30.0, seconds: float = 4.0, jitter_ms: float = 2.0) -> dict[str, Source]:
    """Cameras out of step with each other."""
    return {f"s{n}": Source(jittered(fps, seconds, jitter_ms, n, phase=n * 0.618 % 1)) for n in range(count)}


def simulated(
    sources: dict[str, Source], engine: object = CPU, max_batch: int = 8, burden: float = 0.0, **more: object
) -> Report:
    modes = {name: source.mode for name, source in sources.items()}
    waiting = Batcher[Tick](modes, max_batch, STALENESS_NS)
    waiting.burdened(burden)
    return Site(waiting, sources, engine, **more).run()  # type: ignore[arg-type]


def fairness(counts: list[int]) -> float:
    """Jain's index: 1 when all have the same, 1/n when one has all (Jain, Chiu and Hawe, DEC-TR-301, 1984)."""
    return sum(counts) ** 2 / (len(counts) * sum(count**2 for count in counts))


def test_at_low_load_no_frame_waits() -> None:
    report = simulated(cameras(1))
    alone_ms = 0.5 + 0.87
    assert report.latency_ms(1.0) <= alone_ms + 0.1
    assert not report.dropped


def test_eight_cameras_out_of_step_hardly_wait_for_each_other() -> None:
    assert simulated(cameras(8)).latency_ms(0.99) < 2 * 1.37


@pytest.mark.parametrize("count", [8, 16, 30])
def test_cameras_out_of_step_share_batches_while_the_processor_is_busy(count: int) -> None:
    calm, busy = simulated(cameras(count)), simulated(cameras(count), burden=1.0)
    assert mean(calm.batches) < 2
    assert mean(busy.batches) > 0.9 * COMPANY
    assert busy.latency_ms(1.0) < GATHER_SHARE * STALENESS_NS / MS + 2 * 4 * 1.12 + 0.5
    assert busy.counts() == calm.counts()
    assert not busy.dropped


def test_one_camera_waits_for_nobody_however_busy_the_processor_is() -> None:
    assert simulated(cameras(1), burden=1.0).latencies_ms() == simulated(cameras(1)).latencies_ms()


def test_a_dead_stream_is_no_company_for_those_that_gather() -> None:
    alone = simulated(cameras(6), burden=1.0)
    beside = simulated({**cameras(6), "dead": Source([10**15])}, burden=1.0)
    assert beside.latencies_ms(*cameras(6)) == pytest.approx(alone.latencies_ms(), rel=0.2)


@pytest.mark.parametrize("engine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize(
    "extra",
    [
        pytest.param({"dead": Source([10**15])}, id="dead from the beginning"),
        pytest.param({"stalled": Source([*regular(30, 1), 10**15])}, id="stalled after a second"),
        pytest.param({"slow": Source(regular(1, 4))}, id="one frame a second"),
        pytest.param({"bursts": Source(bursty(30, 4, 10))}, id="bursts of ten"),
    ],
)
def test_a_stream_that_does_not_keep_time_costs_the_others_nothing(extra: dict[str, Source], engine: object) -> None:
    others = cameras(6)
    alone, beside = simulated(others, engine), simulated({**others, **extra}, engine)
    assert mean(beside.latencies_ms(*others)) < mean(alone.latencies_ms()) + 0.4  # what its own frames take
    assert beside.latency_ms(0.99, *others) < alone.latency_ms(0.99) + 4.0
    assert {name: beside.counts()[name] for name in others} == alone.counts()


def test_a_dead_stream_changes_nothing_at_all() -> None:
    alone, beside = simulated(cameras(6)), simulated({**cameras(6), "dead": Source([10**15])})
    assert beside.latencies_ms(*cameras(6)) == pytest.approx(alone.latencies_ms(), rel=0.2)


def test_cameras_in_step_share_batches() -> None:
    report = simulated({f"s{n}": Source(jittered(30, 4, 1.0, n)) for n in range(8)}, GPU)
    assert mean(report.batches) > 4
    assert report.latency_ms(0.99) < 12


@pytest.mark.parametrize(
    ("count", "engine", "capacity"),
    [
        pytest.param(60, CPU, 8 / 5.21e-3, id="60 cameras, 1,800 frames/s for 1,535"),
        pytest.param(8, SLOW, 8 / 162e-3, id="8 cameras, 240 frames/s for 49"),
        pytest.param(30, SLOW, 8 / 162e-3, id="30 cameras, 900 frames/s for 49"),
    ],
)
def test_an_overloaded_engine_never_rests_and_is_shared_evenly(count: int, engine: object, capacity: float) -> None:
    report = simulated(cameras(count, seconds=12.0), engine)
    seconds = max(at for _, at in report.done) / 1e9
    assert len(report.done) / seconds > 0.97 * capacity
    assert fairness(list(report.counts().values())) > 0.99
    assert len(report.counts()) == count, "nobody starves"
    # A frame is stale at the most when it is taken, then waits for one batch at the most, and runs. The last ones of
    # all are taken by nothing newer.
    rounds = -(-count // 8)
    assert report.latency_ms(0.9) < (rounds + 2) * 8e3 / capacity + 1e3 / 30


def test_few_frames_of_a_slow_camera_are_served_before_the_many_of_fast_ones() -> None:
    report = simulated({**cameras(12, 30, 12.0), "slow": Source(regular(1, 12))}, SLOW)
    assert report.counts()["slow"] >= 11


def test_files_as_fast_as_they_go_fill_batches_and_lose_nothing() -> None:
    report = simulated({"f": Source([0] * 400, BULK, decode_ns=round(3.6 * MS))})
    assert report.seqs() == {"f": list(range(400))}
    assert mean(report.batches) > 7
    assert max(at for _, at in report.done) < 400 * 3.6 * MS + 60 * MS, "decoding is the wall"


def test_a_file_that_is_decoded_in_bursts_fills_batches_too() -> None:
    bursts = [number // 4 * 15 * MS + number % 4 * MS // 10 for number in range(400)]  # as by a decoder with 4 threads
    assert mean(simulated({"f": Source(bursts, BULK)}).batches) > 7


def test_a_file_beside_one_that_hangs_goes_on() -> None:
    fast = Source([0] * 200, BULK, decode_ns=2 * MS)
    hangs = Source([0] * 10 + [10**12], BULK, decode_ns=2 * MS)
    alone, beside = simulated({"f": fast}), simulated({"f": fast, "hangs": hangs})
    end = max(at for each, at in beside.done if each.stream == "f")
    assert end < max(at for _, at in alone.done) + 60 * MS


def test_a_file_paced_as_time_goes_loses_nothing_and_is_not_held_back() -> None:
    report = simulated({f"f{n}": Source(regular(30, 3, n / 5), FILE) for n in range(5)})
    assert not report.dropped
    assert report.latency_ms(0.99) < 3


def test_a_batch_that_crashes_costs_its_own_frames() -> None:
    report = simulated(cameras(4), lose={3, 40, 99})
    assert len(report.dropped) <= 6
    assert report.latency_ms(0.98) < 5


def test_several_batches_that_crash_at_once_cost_no_more_than_a_moment() -> None:
    report = simulated(cameras(4), lose={3, 4, 5})
    assert len(report.dropped) <= 3 + 4 * 30 * LOST_NS * 1.1 / 1e9
    assert report.latency_ms(0.98) < 5


def test_a_moving_stream_has_no_latency_from_still_ones_and_those_lose_no_frame() -> None:
    unchanged = {f"still{n}": Source(regular(30, 4, n / 30), unchanged=lambda seq: seq % 30 > 0) for n in range(20)}
    report = simulated({**unchanged, "moving": Source(regular(30, 4))}, GPU, max_batch=1)
    assert not [each for each in report.dropped if each.unchanged]
    inferred = sum(report.batches)
    assert inferred + len(report.skipped) == len(report.done)
    assert inferred < 0.1 * len(report.done)
    assert report.latency_ms(0.9) < 5


def looked_at(times_ns: list[int], phase: float) -> Source:
    """A camera of which five frames a second are inferred."""
    gate = RateGate(5.0, phase)
    wanted = [gate.look(time_ns / 1e9) for time_ns in times_ns]
    return Source(times_ns, between=lambda seq: not wanted[seq])


def test_streams_that_take_turns_wait_less_than_those_that_are_inferred_at_the_same_moments() -> None:
    times = {f"camera-{n}": jittered(30.0, 10.0, 2.0, n, phase=n * 0.618 % 1) for n in range(24)}
    together = simulated({name: looked_at(each, 0.0) for name, each in times.items()}, AVX2)
    in_turn = simulated({name: looked_at(each, phase_of(name)) for name, each in times.items()}, AVX2)
    for report in (together, in_turn):
        assert sum(report.batches) == pytest.approx(24 * 5 * 10, rel=0.03)
    assert p99_inferred_ms(in_turn) < 0.6 * p99_inferred_ms(together)
    assert len(in_turn.dropped) < 0.1 * len(together.dropped)


def p99_inferred_ms(report: Report) -> float:
    """Of the frames that were inferred, but for the first second, in which all streams begin."""
    inferred = [each for each in report.done if (each[0].stream, each[0].seq) not in report.skipped]
    latencies = sorted((at - tick.clock_ns) / MS for tick, at in inferred if tick.seq >= 30)
    return latencies[int(0.99 * len(latencies))]


FRAMES = st.lists(st.integers(0, 60), max_size=25).map(lambda gaps: [sum(gaps[: n + 1]) * MS for n in range(len(gaps))])
SOURCES = st.builds(
    lambda times, mode, decode, unchanged: Source(times, mode, decode * MS, lambda seq: bool(unchanged >> seq % 8 & 1)),
    FRAMES,
    st.sampled_from([LIVE, FILE, BULK]),
    st.integers(0, 5),
    st.integers(0, 255),
)


@given(
    st.lists(SOURCES, min_size=1, max_size=6),
    st.integers(1, 5),
    st.floats(0.0, 20.0),
    st.floats(0.1, 30.0),
    st.sets(st.integers(0, 20), max_size=3),
)
def test_whatever_comes_every_frame_is_out_once_and_in_order_or_was_dropped(
    sources: list[Source], max_batch: int, base_ms: float, frame_ms: float, lose: set[int]
) -> None:
    named = {f"s{number}": source for number, source in enumerate(sources)}
    report = simulated(named, linear(base_ms, frame_ms, 0.3), max_batch, lose=lose)
    dropped = defaultdict[str, list[int]](list)
    for each in report.dropped:
        dropped[each.stream].append(each.seq)
    seqs = report.seqs()
    for name, source in named.items():
        assert sorted(seqs[name] + dropped[name]) == list(range(len(source.times_ns)))
        assert all(earlier < later for earlier, later in pairwise(seqs[name]))
        assert source.mode == LIVE or lose or not dropped[name]
    assert all(size <= max_batch for size in report.batches)
    wanted_last = {name: source for name, source in named.items() if source.mode == LIVE and not lose}
    for name, source in wanted_last.items():
        assert not source.times_ns or seqs[name][-1] == len(source.times_ns) - 1, "the newest frame always gets through"
