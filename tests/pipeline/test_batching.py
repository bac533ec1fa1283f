"""Which frames are batched together, and which are given up."""

from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batching import FILE_BACKLOG, Batcher
from tests.pipeline.made_frames import make_frame, names

LIVE, FILE = True, False


def filled(batcher: Batcher, **counts: int) -> Batcher:
    """Offers ``counts`` frames of each stream."""
    for stream, count in counts.items():
        for seq in range(count):
            batcher.offer(make_frame(stream, seq))
    return batcher


def test_of_a_live_stream_only_the_newest_frame_waits() -> None:
    batcher = Batcher({"a": LIVE}, max_batch=8)
    assert batcher.offer(make_frame("a", 0)) is None
    stale = batcher.offer(make_frame("a", 1))
    assert stale is not None
    assert names([stale]) == ["a0"]
    assert names(batcher.take()) == ["a1"]
    assert batcher.empty


def test_a_live_stream_always_has_room() -> None:
    assert filled(Batcher({"a": LIVE}, max_batch=1), a=10).has_room("a")


def test_a_file_loses_nothing_and_has_room_for_its_backlog() -> None:
    batcher = Batcher({"a": FILE}, max_batch=8)
    for seq in range(FILE_BACKLOG):
        assert batcher.has_room("a")
        assert batcher.offer(make_frame("a", seq)) is None
    assert not batcher.has_room("a")
    assert names(batcher.take()) == [f"a{seq}" for seq in range(FILE_BACKLOG)]
    assert batcher.has_room("a")


def test_every_stream_has_a_frame_in_the_batch_before_any_has_two() -> None:
    batcher = filled(Batcher({"a": FILE, "b": LIVE, "c": FILE}, max_batch=4), a=3, b=1, c=3)
    assert names(batcher.take()) == ["a0", "b0", "c0", "a1"]


def test_second_frames_fill_the_batch_in_order() -> None:
    batcher = filled(Batcher({"a": FILE, "b": FILE}, max_batch=8), a=4, b=2)
    assert names(batcher.take()) == ["a0", "b0", "a1", "b1", "a2", "a3"]


def test_a_batch_is_never_larger_than_it_may_be() -> None:
    batcher = filled(Batcher({"a": FILE}, max_batch=3), a=4)
    assert names(batcher.take()) == ["a0", "a1", "a2"]
    assert names(batcher.take()) == ["a3"]
    assert batcher.take() == ()


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
    live = {f"s{number}": FILE for number in range(streams)}
    batcher, served, seqs = Batcher(live, max_batch), Counter[str](), Counter[str]()
    for _ in range(10 * streams):
        for name in live:
            while batcher.has_room(name):
                batcher.offer(make_frame(name, seqs[name]))
                seqs[name] += 1
        served.update(frame.stream for frame in batcher.take())
        assert max(served.values()) - min(served[name] for name in live) <= 1


def test_a_stream_that_was_silent_is_served_first() -> None:
    batcher = Batcher({"a": LIVE, "b": LIVE, "c": LIVE}, max_batch=1)
    for seq in range(3):
        batcher.offer(make_frame("a", seq))
        assert names(batcher.take()) == [f"a{seq}"]
    filled(batcher, a=1, c=1)
    assert names(batcher.take()) == ["c0"]


@pytest.mark.parametrize(
    ("waiting", "open_streams", "full"),
    [
        pytest.param({}, "ab", False, id="nothing waits"),
        pytest.param({"a": 1}, "ab", False, id="one of two streams"),
        pytest.param({"a": 1, "b": 1}, "ab", True, id="every stream has a frame"),
        pytest.param({"a": 3}, "ab", True, id="a whole batch of one stream"),
        pytest.param({"a": 1}, "a", True, id="the other stream has ended"),
        pytest.param({"b": 1}, "", True, id="all streams have ended, a frame is left"),
    ],
)
def test_when_waiting_longer_is_of_no_use(waiting: dict[str, int], open_streams: str, full: bool) -> None:
    batcher = filled(Batcher({"a": FILE, "b": FILE}, max_batch=3), **waiting)
    assert batcher.full(set(open_streams)) == full


def test_clearing_gives_back_all_that_waits() -> None:
    batcher = filled(Batcher({"a": FILE, "b": LIVE}, max_batch=2), a=3, b=1)
    assert names(batcher.clear()) == ["a0", "a1", "a2", "b0"]
    assert batcher.empty
    assert batcher.take() == ()


STREAMS = {"a": LIVE, "b": FILE, "c": LIVE, "d": FILE}


@given(st.lists(st.sampled_from([*STREAMS, "take"]), max_size=120), st.integers(1, 6))
def test_whatever_happens_every_frame_is_taken_once_in_order_or_was_stale(steps: list[str], max_batch: int) -> None:
    batcher, seqs = Batcher(STREAMS, max_batch), Counter[str]()
    taken, stale = defaultdict[str, list[int]](list), defaultdict[str, list[int]](list)
    for step in steps:
        if step == "take":
            batch = batcher.take()
            assert len(batch) <= max_batch
            for frame in batch:
                taken[frame.stream].append(frame.seq)
        elif batcher.has_room(step):
            given_up = batcher.offer(make_frame(step, seqs[step]))
            seqs[step] += 1
            if given_up is not None:
                stale[given_up.stream].append(given_up.seq)
    for frame in batcher.clear():
        taken[frame.stream].append(frame.seq)
    for name, live in STREAMS.items():
        assert sorted(taken[name] + stale[name]) == list(range(seqs[name]))
        assert all(earlier < later for earlier, later in pairwise(taken[name]))
        assert live or not stale[name]


@given(st.sets(st.sampled_from(sorted(STREAMS)), min_size=1), st.integers(1, 5), st.integers(0, 7))
def test_whoever_waits_is_served_within_one_round(waiting: set[str], max_batch: int, before: int) -> None:
    batcher = Batcher(STREAMS, max_batch)
    for _ in range(before):  # any turn of the streams
        filled(batcher, **dict.fromkeys(sorted(STREAMS)[: before % 4 + 1], 1)).take()
    batcher.clear()
    filled(batcher, **dict.fromkeys(waiting, 1))
    served: set[str] = set()
    for _ in range(-(-len(waiting) // max_batch)):
        served |= {frame.stream for frame in batcher.take()}
    assert served == waiting
