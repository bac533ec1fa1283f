"""Which frames are batched together, when, and which are given up."""

from collections import Counter

import pytest

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
from tests.pipeline.made_clock import MS, Tick

LIVE, FILE, BULK = "freshest", "every_frame", "bulk"
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


def test_a_frame_without_pixels_takes_the_place_of_none_that_is_to_be_inferred() -> None:
    waiting = batcher({"a": LIVE}, max_queue_delay_ns=10)
    waiting.offer(tick("a", 0), 0)
    given_up = [waiting.offer(Tick("a", seq, 10 * seq, between=True, blank=True), 10 * seq) for seq in range(1, 40)]
    assert "a0" not in [name for stale in given_up for name in names(stale)]
    taken = waiting.take(400)
    assert taken.frames[0].seq == 0
    assert taken.skipped == set(range(1, len(taken.frames)))


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
