"""Links between threads: order, backpressure, and closing from either end."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from pipeline.batching import FILE_BACKLOG, Batcher
from pipeline.links import FrameLink, LinkClosed, QueueLink
from pipeline.metrics import Accounts
from pipeline.types import Batch, Frame
from tests.pipeline.made_frames import make_frame, names

PATIENCE_S = 30.0  # no test waits this long unless it fails
A_MOMENT_S = 0.1  # in which what must not happen would have happened
FOREVER_S = 1000.0


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
def accounts() -> Accounts:
    return Accounts()


@pytest.fixture
def link(accounts: Accounts) -> FrameLink:
    """Of the live streams ``a`` and ``b`` and the file ``f``."""
    return FrameLink(Batcher({"a": True, "b": True, "f": False}, max_batch=8), accounts, ("a", "b", "f"))


def batch(batches: Iterator[Batch]) -> list[str]:
    return names(next(batches).frames)


def test_a_batch_is_taken_at_once_when_every_stream_has_a_frame(link: FrameLink) -> None:
    for stream in "fba":
        link.put(make_frame(stream, 0))
    began_ns = time.monotonic_ns()
    taken = next(link.batches(window_s=FOREVER_S))
    assert names(taken.frames) == ["a0", "b0", "f0"]
    assert began_ns <= taken.taken_ns <= time.monotonic_ns()


def test_the_first_frame_waits_for_the_frames_of_other_streams(link: FrameLink) -> None:
    link.put(make_frame("a", 0))
    reader = Task(lambda: batch(link.batches(window_s=FOREVER_S)))
    assert reader.waits()
    link.put(make_frame("f", 0))
    assert reader.waits()
    link.put(make_frame("b", 0))
    assert reader.end().result == ["a0", "b0", "f0"]


def test_but_not_longer_than_the_window(link: FrameLink) -> None:
    link.put(make_frame("a", 0))
    began_s = time.monotonic()
    assert batch(link.batches(window_s=0.05)) == ["a0"]
    assert time.monotonic() - began_s >= 0.05


def test_a_window_of_0_never_waits(link: FrameLink) -> None:
    link.put(make_frame("a", 0))
    assert batch(link.batches(window_s=0.0)) == ["a0"]


def test_a_stream_that_has_ended_is_not_waited_for(link: FrameLink) -> None:
    link.put(make_frame("a", 0))
    link.put(make_frame("f", 0))
    reader = Task(lambda: batch(link.batches(window_s=FOREVER_S)))
    assert reader.waits()
    link.finish("b")
    assert reader.end().result == ["a0", "f0"]


def test_while_the_engine_is_busy_only_the_newest_frame_of_a_live_stream_waits(
    link: FrameLink, accounts: Accounts
) -> None:
    for seq in range(5):
        link.put(make_frame("a", seq))
    link.put(make_frame("b", 0))
    assert batch(link.batches(window_s=0.0)) == ["a4", "b0"]
    assert accounts.of("a").dropped == {"stale": 4}
    assert accounts.of("b").dropped == {}


def test_a_file_waits_for_room_and_loses_nothing(link: FrameLink, accounts: Accounts) -> None:
    for frame in frames(FILE_BACKLOG, "f"):
        link.put(frame)
    source = Task(lambda: link.put(make_frame("f", FILE_BACKLOG)))
    assert source.waits()
    batches = link.batches(window_s=0.0)
    assert len(batch(batches)) == FILE_BACKLOG
    source.end()
    assert batch(batches) == [f"f{FILE_BACKLOG}"]
    assert accounts.of("f").dropped == {}


def test_a_file_that_waits_for_room_holds_no_other_stream_up(link: FrameLink) -> None:
    for frame in frames(FILE_BACKLOG, "f"):
        link.put(frame)
    source = Task(lambda: link.put(make_frame("f", FILE_BACKLOG)))
    assert source.waits()
    link.put(make_frame("a", 0))
    assert batch(link.batches(window_s=0.0))[0] == "a0"
    source.end()


def test_batches_end_with_the_last_frame_of_the_last_stream(link: FrameLink) -> None:
    link.put(make_frame("a", 0))
    for stream in "abf":
        link.finish(stream)
    assert [names(each.frames) for each in link.batches(window_s=FOREVER_S)] == [["a0"]]


def test_the_end_of_all_streams_wakes_the_reader(link: FrameLink) -> None:
    reader = Task(lambda: list(link.batches(window_s=FOREVER_S)))
    assert reader.waits()
    for stream in "abf":
        link.finish(stream)
    assert reader.end().result == []


def test_abandoning_gives_back_what_waited_and_ends_both_sides(link: FrameLink) -> None:
    for frame in frames(FILE_BACKLOG, "f"):
        link.put(frame)
    source = Task(lambda: link.put(make_frame("f", FILE_BACKLOG)))
    assert source.waits()
    assert names(link.abandon()) == [f"f{seq}" for seq in range(FILE_BACKLOG)]
    assert isinstance(source.end().raised, LinkClosed)
    assert list(link.batches(window_s=FOREVER_S)) == []
    with pytest.raises(LinkClosed):
        link.put(make_frame("a", 0))


@pytest.mark.parametrize("waiting", [0, 1])
def test_abandoning_wakes_the_reader_also_in_its_window(link: FrameLink, waiting: int) -> None:
    for frame in frames(waiting):
        link.put(frame)
    reader = Task(lambda: list(link.batches(window_s=FOREVER_S)))
    assert reader.waits()
    assert len(link.abandon()) == waiting
    assert reader.end().result == []
