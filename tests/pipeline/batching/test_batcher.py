"""Which frames are batched together, when, and which are given up."""

from collections import Counter, defaultdict
from itertools import pairwise
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching.batcher import (
    BUSY,
    CALM,
    COMPANY,
    GATHER_SHARE,
    LOST_NS,
    MIN_BACKLOG,
    UNCHANGED_BACKLOG,
    Batcher,
    backlog,
)
from pipeline.frames.types import BatchTiming, Mode, Timestamps
from tests.pipeline.made_clock import MS, Report, Site, Source, Tick, bursty, jittered, linear, regular

LIVE, FILE, BULK = "freshest", "every_frame", "bulk"
CPU = linear(0.25, 0.62)  # ms a batch and ms a frame: a small network on two cores
GPU = linear(1.7, 0.3)  # batches are nearly free
SLOW = linear(2.0, 20.0)
STALENESS_NS = 50 * MS


def tick(stream: str, seq: int = 0, at_ms: float = 0.0, *, unchanged: bool = False) -> Tick:
    return Tick(stream, seq, round(at_ms * MS), unchanged)


def batcher(modes: dict[str, Mode], max_batch: int = 8, max_queue_delay_ns: int = STALENESS_NS) -> Batcher[Tick]:
    return Batcher(modes, max_batch, max_queue_delay_ns)


def names(ticks: tuple[Tick, ...]) -> list[str]:
    return [f"{each.stream}{each.seq}" for each in ticks]


def filled(waiting: Batcher[Tick], **counts: int) -> Batcher[Tick]:
    """Offers ``counts`` frames of each stream."""
    for stream, count in counts.items():
        for seq in range(count):
            waiting.offer(tick(stream, seq), 0)
    return waiting


# The choice among what waits.


def test_a_stale_frame_of_a_live_stream_gives_way_to_the_next() -> None:
    waiting = batcher({"a": LIVE}, max_queue_delay_ns=10)
    assert waiting.offer(tick("a", 0), 0) == ()
    assert names(waiting.offer(tick("a", 1), 10)) == ["a0"]
    assert names(waiting.take(11).frames) == ["a1"]
    assert waiting.empty


def test_a_frame_that_is_not_stale_waits_beside_the_next() -> None:
    """Cameras do not send in even steps, and an engine that is late for one frame need not lose it."""
    waiting = batcher({"a": LIVE}, max_queue_delay_ns=10)
    assert waiting.offer(tick("a", 0), 0) == ()
    assert waiting.offer(tick("a", 1), 9) == ()
    assert names(waiting.take(9).frames) == ["a0", "a1"]


def test_with_no_staleness_only_the_newest_frame_waits() -> None:
    waiting = batcher({"a": LIVE}, max_queue_delay_ns=0)
    assert [names(waiting.offer(tick("a", seq), 0)) for seq in range(3)] == [[], ["a0"], ["a1"]]


def test_however_fast_frames_come_only_a_few_of_a_live_stream_wait() -> None:
    waiting = batcher({"a": LIVE})
    dropped = [name for seq in range(10) for name in names(waiting.offer(tick("a", seq), 0))]
    assert dropped == [f"a{seq}" for seq in range(10 - len(waiting.take(0).frames))]
    assert 6 <= len(dropped) < 10


def test_a_live_stream_always_has_room() -> None:
    assert filled(batcher({"a": LIVE}, 1), a=10).has_room("a")


@pytest.mark.parametrize("mode", [FILE, BULK])
def test_a_file_loses_nothing_and_has_room_for_its_backlog(mode: Mode) -> None:
    waiting = batcher({"a": mode})
    for seq in range(8):
        assert waiting.has_room("a")
        assert waiting.offer(tick("a", seq), 0) == ()
    assert not waiting.has_room("a")
    assert names(waiting.take(0).frames) == [f"a{seq}" for seq in range(8)]
    assert waiting.has_room("a")


@pytest.mark.parametrize(
    ("streams", "max_batch", "frames"),
    [
        pytest.param(1, 8, 8, id="one file fills a batch"),
        pytest.param(3, 8, 3, id="three together do"),
        pytest.param(30, 8, MIN_BACKLOG, id="and of many one frame each waits beside the one to take"),
        pytest.param(0, 8, 8, id="no files"),
    ],
)
def test_what_waits_of_all_files_together_fills_a_batch(streams: int, max_batch: int, frames: int) -> None:
    assert backlog(streams, max_batch) == frames


def test_every_stream_has_a_frame_in_the_batch_before_any_has_two() -> None:
    waiting = filled(batcher({"a": FILE, "b": LIVE, "c": FILE}, 4), a=2, b=1, c=2)
    assert names(waiting.take(0).frames) == ["a0", "b0", "c0", "a1"]


def test_a_batch_is_never_larger_than_it_may_be() -> None:
    waiting = filled(batcher({"a": FILE}, 3), a=3)
    waiting.offer(tick("a", 3), 0)
    assert names(waiting.take(0).frames) == ["a0", "a1", "a2"]
    assert names(waiting.take(0).frames) == ["a3"]


@pytest.mark.parametrize(
    ("streams", "max_batch"),
    [
        pytest.param(5, 2, id="more streams than fit in a batch"),
        pytest.param(2, 3, id="a batch that does not divide by the streams"),
        pytest.param(3, 8, id="the same with more second frames"),
        pytest.param(3, 1, id="one frame at a time"),
        pytest.param(4, 4, id="just as many"),
    ],
)
def test_streams_that_always_have_frames_share_the_batches_evenly(streams: int, max_batch: int) -> None:
    modes: dict[str, Mode] = {f"s{number}": FILE for number in range(streams)}
    waiting, served, seqs = batcher(modes, max_batch), Counter[str](), Counter[str]()
    for now in range(10 * streams):
        for name in modes:
            while waiting.has_room(name):
                waiting.offer(tick(name, seqs[name]), now)
                seqs[name] += 1
        served.update(frame.stream for frame in waiting.take(now).frames)
        assert max(served.values()) - min(served[name] for name in modes) <= 1


def test_a_stream_that_was_silent_is_served_first() -> None:
    waiting = batcher({"a": LIVE, "b": LIVE, "c": LIVE}, 1)
    for seq in range(3):
        waiting.offer(tick("a", seq), seq)
        assert names(waiting.take(seq).frames) == [f"a{seq}"]
    filled(waiting, a=1, c=1)
    assert names(waiting.take(3).frames) == ["c0"]


def test_clearing_gives_back_all_that_waits() -> None:
    waiting = filled(batcher({"a": FILE, "b": LIVE}, 2), a=2, b=1)
    assert names(waiting.clear()) == ["a0", "a1", "b0"]
    assert waiting.empty
    assert waiting.take(0).frames == ()


# Frames that need no inference.


def test_still_frames_go_along_and_take_no_place_in_the_batch() -> None:
    waiting = batcher({"a": FILE, "b": FILE}, 2)
    for frame in (tick("a", 0, unchanged=True), tick("a", 1), tick("b", 0), tick("b", 1, unchanged=True)):
        waiting.offer(frame, 0)
    taken = waiting.take(0)
    assert names(taken.frames) == ["a0", "a1", "b0", "b1"]
    assert taken.skipped == {0, 3}


def test_still_frames_go_though_the_batch_is_full_but_none_past_a_frame_of_its_stream_that_waits() -> None:
    waiting = batcher({"a": FILE, "b": FILE, "c": FILE}, 1)
    for frame in (tick("a", 0), tick("b", 0), tick("b", 1, unchanged=True), tick("c", 0, unchanged=True)):
        waiting.offer(frame, 0)
    taken = waiting.take(0)
    assert names(taken.frames) == ["a0", "c0"]
    assert taken.skipped == {1}
    assert names(waiting.take(1).frames) == ["b0", "b1"]


def test_a_live_stream_keeps_still_frames_for_they_cost_nothing_but_not_without_end() -> None:
    waiting = batcher({"a": LIVE})
    stale = [waiting.offer(tick("a", seq, unchanged=True), seq) for seq in range(UNCHANGED_BACKLOG + 1)]
    assert [names(each) for each in stale if each] == [["a0"]]
    assert names(waiting.take(9).frames) == [f"a{seq}" for seq in range(1, UNCHANGED_BACKLOG + 1)]


def test_the_frame_that_takes_the_place_of_one_with_motion_is_inferred() -> None:
    waiting = batcher({"a": LIVE}, max_queue_delay_ns=0)
    waiting.offer(tick("a", 0, unchanged=True), 0)
    waiting.offer(tick("a", 1), 1)
    assert names(waiting.offer(tick("a", 2, unchanged=True), 2)) == ["a1"]
    taken = waiting.take(3)
    assert names(taken.frames) == ["a0", "a2"]
    assert taken.skipped == {0}


# The moment at which a batch is taken.


def ran(
    taken_ms: float, ready_ms: float, started_ms: float, ended_ms: float, size: int = 1, depth: int = 1
) -> BatchTiming:
    taken, ready, started, ended = (round(ms * MS) for ms in (taken_ms, ready_ms, started_ms, ended_ms))
    return BatchTiming(size, Timestamps(taken, ready, started, ended), depth)


def warm(modes: dict[str, Mode], *, base_ms: float = 4.0, frame_ms: float = 1.0) -> Batcher[Tick]:
    """A batcher that knows its engine from runs before time 0, some time ago; a frame is prepared in 1 ms."""
    waiting = batcher(modes)
    for number in range(6):
        began = -700.0 + 100.0 * number
        size = 1 + number % 2
        end = began + base_ms + frame_ms * size
        waiting.ran(ran(began - size, began, began, end, size))
    return waiting


def test_nothing_is_due_while_nothing_waits() -> None:
    assert batcher({"a": LIVE}).due(0) is None


def test_a_frame_that_has_no_company_to_come_is_due_at_once() -> None:
    waiting = warm({"a": LIVE, "b": LIVE, "never seen": LIVE})
    waiting.offer(tick("a"), 0)
    due = waiting.due(0)
    assert due is not None
    assert due <= 0


def beaten(waiting: Batcher[Tick], *streams: tuple[str, float], period_ms: float = 40.0) -> None:
    """Lets live streams run for a second up to time 0; each with what is left to its next frame, ms."""
    for number in range(-25, 0):
        for stream, ahead_ms in streams:
            at = round((number * period_ms + ahead_ms) * MS)
            waiting.offer(tick(stream, 25 + number, at / MS), at)
    waiting.take(-1)
    waiting.ran(ran(-1e-6, -0.9e-6, -0.8e-6, 0.0, 0))


def test_it_waits_for_a_frame_that_is_due_within_what_sharing_saves() -> None:
    waiting = warm({"a": LIVE, "b": LIVE})
    beaten(waiting, ("a", 0.0), ("b", 3.0))
    waiting.offer(tick("a", 30), 0)
    due = waiting.due(0)
    assert due is not None
    assert 3 * MS < due <= 4.3 * MS  # a batch of two costs 4 ms less than two of one
    waiting.offer(tick("b", 30, 3.0), 3 * MS)
    due = waiting.due(3 * MS)
    assert due is not None
    assert due <= 3 * MS, "all are there"


@pytest.mark.parametrize(
    ("ahead_ms", "case"),
    [(6.0, "later than sharing saves"), (-2.0, "was due 2 ms ago and has not come: stalled")],
)
def test_it_waits_for_no_frame_that(ahead_ms: float, case: str) -> None:
    waiting = warm({"a": LIVE, "b": LIVE})
    beaten(waiting, ("a", 0.0), ("b", ahead_ms))
    waiting.offer(tick("a", 30), 0)
    due = waiting.due(0)
    assert due is not None
    assert due <= 0, case


def test_it_waits_for_no_stream_that_ended_or_stands_still() -> None:
    for ending in (True, False):
        waiting = warm({"a": LIVE, "b": LIVE})
        beaten(waiting, ("a", 0.0), ("b", 3.0))
        if ending:
            waiting.finish("b")
        else:
            waiting.offer(tick("b", 29, -37.0, unchanged=True), -37 * MS)
            waiting.take(-1)
            waiting.ran(ran(-1e-6, -0.9e-6, -0.8e-6, 0.0, 0))
        waiting.offer(tick("a", 30), 0)
        due = waiting.due(0)
        assert due is not None
        assert due <= 0


def test_a_frame_that_is_old_waits_for_nobody() -> None:
    waiting = warm({"a": LIVE, "b": LIVE})
    beaten(waiting, ("a", 0.0), ("b", 3.0))
    waiting.offer(tick("a", 30, at_ms=-50.0), 0)
    due = waiting.due(0)
    assert due is not None
    assert due <= 0


def test_while_the_processor_is_busy_a_frame_waits_for_company_by_its_age() -> None:
    waiting = warm({"a": LIVE, "b": LIVE})
    beaten(waiting, ("a", 0.0), ("b", 10.0))
    waiting.burdened(BUSY)
    waiting.offer(tick("a", 30, at_ms=-3.0), 0)
    due = waiting.due(0)
    assert due is not None
    assert 10 * MS < due <= GATHER_SHARE * STALENESS_NS - 3 * MS, "b is due at 10 ms"
    waiting.offer(tick("b", 30, 10.0), 10 * MS)
    due = waiting.due(10 * MS)
    assert due is not None
    assert due <= 10 * MS, "nobody else comes"


@pytest.mark.parametrize(
    ("burden", "age_ms", "case"),
    [
        (CALM, 0.0, "the processor has time"),
        ((CALM + BUSY) / 2, 0.0, "it is half as urgent: not for 10 ms"),
        (1.0, 6.0, "the frame is older already than what it could wait for"),
        (1.0, 40.0, "it is nearly stale"),
    ],
)
def test_a_frame_waits_for_no_company_where(burden: float, age_ms: float, case: str) -> None:
    waiting = warm({"a": LIVE, "b": LIVE})
    beaten(waiting, ("a", 0.0), ("b", 10.0))
    waiting.burdened(burden)
    waiting.offer(tick("a", 30, at_ms=-age_ms), 0)
    due = waiting.due(0)
    assert due is not None
    assert due <= 0, case


def test_enough_company_is_enough() -> None:
    modes: dict[str, Mode] = {f"s{number}": LIVE for number in range(COMPANY + 1)}
    waiting = warm(modes, base_ms=0.0)
    beaten(waiting, *((name, 10.0) for name in modes))
    waiting.clear()
    waiting.burdened(1.0)
    for number, name in enumerate(list(modes)[:COMPANY], start=1):
        waiting.offer(tick(name, 30), 0)
        due = waiting.due(0)
        assert due is not None
        assert (due <= 0) == (number == COMPANY)


def test_while_the_engine_is_busy_frames_gather_until_it_is_about_to_be_free() -> None:
    waiting = warm({"a": LIVE, "b": LIVE})
    waiting.offer(tick("a", 0), 0)
    waiting.take(0)  # prepared at 1 ms, done at 6 ms
    waiting.offer(tick("b", 0), MS)
    due = waiting.due(MS)
    assert due is not None
    assert 3.5 * MS < due < 5 * MS, "in time to be prepared, 1 ms"
    waiting.ran(ran(0, 1, 1, 3))
    due = waiting.due(3 * MS)
    assert due is not None
    assert due <= 3 * MS, "the engine was done earlier than expected"


def test_an_engine_that_runs_two_batches_at_once_gets_two() -> None:
    waiting = warm({"a": LIVE, "b": LIVE, "c": LIVE})
    waiting.ran(ran(-20, -19, -19, -14, 1, depth=2))
    waiting.offer(tick("a", 0), 0)
    waiting.take(0)
    waiting.offer(tick("b", 0), 0)
    due = waiting.due(0)
    assert due is not None
    assert due <= 0
    waiting.take(0)
    waiting.offer(tick("c", 0), 0)
    due = waiting.due(0)
    assert due is not None
    assert due > 3 * MS, "but a third waits until the first is about to end"


def test_a_full_batch_of_files_is_taken_while_the_engine_runs_for_it_gets_no_fresher() -> None:
    waiting = warm({"a": FILE})
    waiting.offer(tick("a", 0), 0)
    waiting.take(0)
    filled(waiting, a=8)
    assert waiting.due(MS) == MS
    waiting.take(MS)
    filled(waiting, a=8)
    due = waiting.due(MS)
    assert due is not None
    assert due > MS, "one waits for the engine already"


def test_a_batch_that_never_comes_back_holds_the_others_up_for_a_moment_only() -> None:
    waiting = warm({"a": LIVE})
    for seq in range(2):
        waiting.offer(tick("a", seq), 0)
        waiting.take(seq)
    waiting.offer(tick("a", 2), 2)
    due = waiting.due(2)
    assert due is not None
    assert LOST_NS < due < 1.1 * LOST_NS
    due = waiting.due(round(due) + 1)
    assert due is not None
    assert due <= LOST_NS + 10 * MS, "there is one under way, overdue: the engine must be free"


# Whole sites on a made clock.


def cameras(count: int, fps: float = 30.0, seconds: float = 4.0, jitter_ms: float = 2.0) -> dict[str, Source]:
    """Cameras out of step with each other."""
    return {f"s{n}": Source(jittered(fps, seconds, jitter_ms, n, phase=n * 0.618 % 1)) for n in range(count)}


def simulated(
    sources: dict[str, Source], engine: object = CPU, max_batch: int = 8, burden: float = 0.0, **more: object
) -> Report:
    waiting = batcher({name: source.mode for name, source in sources.items()}, max_batch)
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
