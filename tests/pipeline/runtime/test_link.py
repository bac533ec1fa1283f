"""Links between threads: order, backpressure, and closing from either end."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from engines.cpu_load import CpuLoad
from pipeline.batching.batcher import Batcher
from pipeline.frames.counters import FrameCounters
from pipeline.frames.types import Batch, BatchTiming, Frame, Timestamps
from pipeline.runtime.link import FrameLink, LinkClosed, QueueLink
from pipeline.settings.schema import InferenceSettings
from tests.pipeline.made_frames import make_frame, names

PATIENCE_S = 30.0  # no test waits this long unless it fails
A_MOMENT_S = 0.1  # in which what must not happen would have happened


class Task:
    """A call in a thread of its own."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.raised: BaseException | None = None
        self.result: object = None
        self._thread = threading.Thread(target=self._run, args=(call,), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[[], object]) -> None:
        try:
            self.result = call()
        except BaseException as error:
            self.raised = error

    def waits(self) -> bool:
        self._thread.join(A_MOMENT_S)
        return self._thread.is_alive()

    def end(self) -> "Task":
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        return self


def frames(count: int, stream: str = "a") -> list[Frame]:
    return [make_frame(stream, seq) for seq in range(count)]


def filled(link: QueueLink[Frame], count: int) -> QueueLink[Frame]:
    for frame in frames(count):
        link.put(frame)
    return link


def test_what_is_put_comes_out_in_order_and_a_finished_link_is_read_to_its_end() -> None:
    link = filled(QueueLink[Frame](4), 3)
    link.finish()
    assert names(list(link)) == ["a0", "a1", "a2"]
    assert list(link) == []


def test_frames_in_a_link_are_counted() -> None:
    link = filled(QueueLink[Frame](4), 3)
    assert link.waiting == 3
    next(iter(link))
    assert link.waiting == 2


def test_many_items_pass_through_a_narrow_link() -> None:
    link = QueueLink[Frame](1)

    def write() -> None:
        filled(link, 500)
        link.finish()

    writer = Task(write)
    assert [frame.seq for frame in link] == list(range(500))
    writer.end()


def test_a_full_link_makes_its_writer_wait() -> None:
    link = filled(QueueLink[Frame](2), 2)
    writer = Task(lambda: link.put(make_frame("a", 2)))
    assert writer.waits()
    assert names([next(iter(link))]) == ["a0"]
    writer.end()
    link.finish()
    assert names(list(link)) == ["a1", "a2"]


def test_an_empty_link_makes_its_reader_wait() -> None:
    link = QueueLink[Frame](2)
    reader = Task(lambda: next(iter(link)))
    assert reader.waits()
    link.put(make_frame("a", 0))
    assert reader.end().result == make_frame("a", 0)


def test_finishing_wakes_the_reader() -> None:
    link = QueueLink[Frame](2)
    reader = Task(lambda: list(link))
    assert reader.waits()
    link.finish()
    assert reader.end().result == []


def test_an_abandoned_link_gives_back_what_was_inside_and_ends_both_sides() -> None:
    link = filled(QueueLink[Frame](2), 2)
    writer = Task(lambda: link.put(make_frame("a", 2)))
    assert writer.waits()
    assert names(link.abandon()) == ["a0", "a1"]
    assert isinstance(writer.end().raised, LinkClosed)
    assert list(link) == []
    with pytest.raises(LinkClosed):
        link.put(make_frame("a", 3))
    assert link.abandon() == []


def test_abandoning_wakes_the_reader() -> None:
    link = QueueLink[Frame](2)
    reader = Task(lambda: list(link))
    assert reader.waits()
    link.abandon()
    assert reader.end().result == []


@pytest.fixture
def counters() -> FrameCounters:
    return FrameCounters()


BACKLOG = 8  # frames that may wait of the only file


@pytest.fixture
def link(counters: FrameCounters) -> FrameLink:
    """Of the live streams ``a`` and ``b`` and the file ``f``."""

    def dropped(frame: Frame, cause: str) -> None:
        counters.dropped(frame.stream, cause)

    settings = InferenceSettings(max_batch=8, max_queue_delay_ms=50.0)
    return FrameLink(settings, {"a": "freshest", "b": "freshest", "f": "every_frame"}, dropped)


def batch(batches: Iterator[Batch]) -> list[str]:
    return names(next(batches).frames)


def ended(taken: Batch, engine_s: float = 0.0) -> BatchTiming:
    """The engine ended a batch, just now."""
    now_ns = time.monotonic_ns()
    timestamps = Timestamps(taken.taken_ns, taken.taken_ns, now_ns - round(engine_s * 1e9), now_ns)
    return BatchTiming(len(taken.frames), timestamps, depth=1)


def test_all_that_waits_is_one_batch_and_nobody_else_is_waited_for(link: FrameLink) -> None:
    for stream in "fb":
        link.put(make_frame(stream, 0))
    began_ns = time.monotonic_ns()
    taken = next(link.batches())
    assert names(taken.frames) == ["b0", "f0"]
    assert began_ns <= taken.taken_ns <= time.monotonic_ns()
    assert taken.skipped == frozenset()


def test_frames_that_wait_for_a_batch_are_counted(link: FrameLink) -> None:
    for stream in "fba":
        link.put(make_frame(stream, 0))
    assert link.waiting == 3
    next(link.batches())
    assert link.waiting == 0


def test_a_frame_that_comes_wakes_the_reader(link: FrameLink) -> None:
    reader = Task(lambda: batch(link.batches()))
    assert reader.waits()
    link.put(make_frame("a", 0))
    assert reader.end().result == ["a0"]


def test_frames_gather_while_the_engine_is_busy_and_its_end_wakes_the_reader(link: FrameLink) -> None:
    batches = link.batches()
    for number in range(2):  # the first tells how long a run takes, the second is under way
        link.put(make_frame("a", number))
        taken = next(batches)
        if number == 0:
            link.ran(ended(taken, engine_s=1000.0))
    link.put(make_frame("a", 2))
    reader = Task(lambda: batch(batches))
    assert reader.waits()
    link.put(make_frame("b", 0))
    assert reader.waits()
    link.ran(ended(taken))
    assert reader.end().result == ["b0", "a2"], "who was not served yet comes first"


def test_batching_hears_after_each_batch_how_busy_the_processor_is(
    link: FrameLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[float] = []
    monkeypatch.setattr(CpuLoad, "__call__", lambda self, now_ns: 0.7)
    monkeypatch.setattr(Batcher, "burdened", lambda self, share: heard.append(share))
    link.put(make_frame("a", 0))
    link.ran(ended(next(link.batches())))
    assert heard == [0.7]


def test_still_frames_go_along_without_inference(link: FrameLink) -> None:
    link.put(replace(make_frame("a", 0), unchanged=True))
    link.put(make_frame("b", 0))
    taken = next(link.batches())
    assert names(taken.frames) == ["a0", "b0"]
    assert names(taken.to_infer) == ["b0"]


def test_while_the_engine_is_busy_only_the_newest_frame_of_a_live_stream_waits(
    link: FrameLink, counters: FrameCounters
) -> None:
    for seq in range(5):
        link.put(make_frame("a", seq))
    link.put(make_frame("b", 0))
    assert batch(link.batches()) == ["a4", "b0"]
    assert counters.of("a").dropped == {"stale": 4}
    assert counters.of("b").dropped == {}


def test_a_file_waits_for_room_and_loses_nothing(link: FrameLink, counters: FrameCounters) -> None:
    for frame in frames(BACKLOG, "f"):
        link.put(frame)
    source = Task(lambda: link.put(make_frame("f", BACKLOG)))
    assert source.waits()
    batches = link.batches()
    assert len(batch(batches)) == BACKLOG
    source.end()
    assert batch(batches) == [f"f{BACKLOG}"]
    assert counters.of("f").dropped == {}


def test_a_file_that_waits_for_room_holds_no_other_stream_up(link: FrameLink) -> None:
    for frame in frames(BACKLOG, "f"):
        link.put(frame)
    source = Task(lambda: link.put(make_frame("f", BACKLOG)))
    assert source.waits()
    link.put(make_frame("a", 0))
    assert batch(link.batches())[0] == "a0"
    source.end()


def test_batches_end_with_the_last_frame_of_the_last_stream(link: FrameLink) -> None:
    link.put(make_frame("a", 0))
    for stream in "abf":
        link.finish(stream)
    assert [names(each.frames) for each in link.batches()] == [["a0"]]


def test_the_end_of_all_streams_wakes_the_reader(link: FrameLink) -> None:
    reader = Task(lambda: list(link.batches()))
    assert reader.waits()
    for stream in "abf":
        link.finish(stream)
    assert reader.end().result == []


def test_abandoning_gives_back_what_waited_and_ends_both_sides(link: FrameLink) -> None:
    for frame in frames(BACKLOG, "f"):
        link.put(frame)
    source = Task(lambda: link.put(make_frame("f", BACKLOG)))
    assert source.waits()
    assert names(link.abandon()) == [f"f{seq}" for seq in range(BACKLOG)]
    assert isinstance(source.end().raised, LinkClosed)
    assert list(link.batches()) == []
    with pytest.raises(LinkClosed):
        link.put(make_frame("a", 0))


@pytest.mark.parametrize("waiting", [0, 1])
def test_abandoning_wakes_the_reader_also_while_the_engine_is_busy(link: FrameLink, waiting: int) -> None:
    batches = link.batches()
    for number in range(2):
        link.put(make_frame("a", number))
        taken = next(batches)
        if number == 0:
            link.ran(ended(taken, engine_s=1000.0))
    for frame in frames(waiting):
        link.put(frame)
    reader = Task(lambda: list(batches))
    assert reader.waits()
    assert len(link.abandon()) == waiting
    assert reader.end().result == []
