"""Stages that crash, swallow frames, or find nobody to pass them to."""

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from engines.errors import StageError
from pipeline.frames.counters import FrameCounters
from pipeline.frames.types import Batch, Frame
from pipeline.runtime import supervision
from pipeline.runtime.link import LinkClosed
from pipeline.runtime.supervision import MAX_CRASHES, WINDOW_S, CrashLimit, Held, StageThreads, supervise, until_over
from tests.pipeline.made_frames import make_frame, names

PATIENCE_S = 30.0  # no test waits this long unless it fails


class MadeError(Exception):
    """Raised on purpose."""


def frames(count: int) -> list[Frame]:
    return [make_frame("a", seq) for seq in range(count)]


def crashing_at(*seqs: int) -> Callable[[Iterator[Frame]], Iterator[Frame]]:
    """A stage that passes frames on and crashes over some of them."""

    def stage(items: Iterator[Frame]) -> Iterator[Frame]:
        for frame in items:
            if frame.seq in seqs:
                raise MadeError(f"over frame {frame.seq}")
            yield frame

    return stage


@pytest.fixture(scope="module", autouse=True)
def log() -> Iterator[None]:
    """Keeps the tracebacks of made crashes, which are slow to draw, off the screen."""
    with capture_logs():
        yield


@pytest.fixture
def counters() -> FrameCounters:
    return FrameCounters()


def told_to(counters: FrameCounters) -> Callable[[Frame, str], None]:
    return lambda frame, cause: counters.dropped(frame.stream, cause)


def supervised(stage: Callable[[Iterator[Frame]], Iterator[Frame]], count: int, counters: FrameCounters) -> list[str]:
    """Names of the frames that came out of ``count``."""
    out: list[Frame] = []
    supervise("made", stage, lambda: frames(count), out.append, told_to(counters))
    return names(out)


def test_a_stage_that_never_crashes_passes_everything_on(counters: FrameCounters) -> None:
    assert supervised(crashing_at(), 3, counters) == ["a0", "a1", "a2"]
    assert counters.of("a").dropped == {}


def test_a_crash_costs_the_frame_the_stage_held_and_the_others_go_on(counters: FrameCounters) -> None:
    assert supervised(crashing_at(1), 4, counters) == ["a0", "a2", "a3"]
    assert counters.of("a").dropped == {"crash": 1}


@pytest.mark.parametrize("seq", [0, 3])
def test_a_crash_over_the_first_or_the_last_frame(counters: FrameCounters, seq: int) -> None:
    assert len(supervised(crashing_at(seq), 4, counters)) == 3
    assert counters.of("a").dropped == {"crash": 1}


def test_a_crash_costs_all_frames_that_a_stage_gathers(counters: FrameCounters) -> None:
    def in_threes(items: Iterator[Frame]) -> Iterator[Batch]:
        gathered: list[Frame] = []
        for frame in items:
            gathered.append(frame)
            if frame.seq == 5:
                raise MadeError
            if len(gathered) == 3:
                yield Batch(tuple(gathered), 0)
                gathered.clear()

    out: list[Batch] = []
    supervise("made", in_threes, lambda: frames(9), out.append, told_to(counters))
    assert [names(batch.frames) for batch in out] == [["a0", "a1", "a2"], ["a6", "a7", "a8"]]
    assert counters.of("a").dropped == {"crash": 3}


def test_a_crash_in_the_middle_of_a_batch_costs_the_rest_of_it(counters: FrameCounters) -> None:
    def one_by_one(items: Iterator[Batch]) -> Iterator[Frame]:
        for batch in items:
            yield from crashing_at(1)(iter(batch.frames))

    out: list[Frame] = []
    supervise("made", one_by_one, lambda: [Batch(tuple(frames(3)), 0)], out.append, told_to(counters))
    assert names(out) == ["a0"]
    assert counters.of("a").dropped == {"crash": 2}


def test_frames_of_several_streams_are_counted_for_each(counters: FrameCounters) -> None:
    def crash(items: Iterable[Batch]) -> Iterator[Batch]:
        for _ in items:
            raise MadeError
        yield from ()

    batch = Batch((make_frame("a", 7), make_frame("b", 7), make_frame("b", 8)), 0)
    supervise("made", crash, lambda: [batch], lambda item: None, told_to(counters))
    assert (counters.of("a").dropped, counters.of("b").dropped) == ({"crash": 1}, {"crash": 2})


def test_a_crash_of_whoever_takes_a_frame_is_a_crash_too(counters: FrameCounters) -> None:
    out: list[Frame] = []

    def take(frame: Frame) -> None:
        if frame.seq == 1:
            raise MadeError
        out.append(frame)

    supervise("made", crashing_at(), lambda: frames(3), take, told_to(counters))
    assert names(out) == ["a0", "a2"]
    assert counters.of("a").dropped == {"crash": 1}


def test_a_crash_is_logged_with_its_stage_its_cost_and_its_traceback(counters: FrameCounters) -> None:
    with capture_logs() as lines:
        supervised(crashing_at(1), 3, counters)
    assert lines == [
        {
            "event": "stage crashed",
            "log_level": "error",
            "stage": "made",
            "error": "over frame 1",
            "frames_lost": 1,
            "exc_info": True,
        }
    ]


def test_five_crashes_in_a_minute_are_borne(counters: FrameCounters) -> None:
    assert supervised(crashing_at(*range(MAX_CRASHES)), MAX_CRASHES + 1, counters) == [f"a{MAX_CRASHES}"]
    assert counters.of("a").dropped == {"crash": MAX_CRASHES}


def test_one_more_ends_the_run_and_tells_why(counters: FrameCounters) -> None:
    with pytest.raises(StageError, match="stage 'made' crashed more than 5 times in a minute: over frame 5") as raised:
        supervised(crashing_at(*range(9)), 9, counters)
    assert isinstance(raised.value.__cause__, MadeError)
    assert counters.of("a").dropped == {"crash": MAX_CRASHES + 1}


def test_crashes_that_are_seldom_are_borne_for_ever(counters: FrameCounters, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 15))  # seconds: four crashes a minute
    monkeypatch.setattr(supervision, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    supervised(crashing_at(*range(100)), 100, counters)
    assert counters.of("a").dropped == {"crash": 100}


def test_when_nobody_takes_frames_any_more_the_stage_ends_and_they_are_counted(counters: FrameCounters) -> None:
    taken: list[Frame] = []

    def take(frame: Frame) -> None:
        if taken:
            raise LinkClosed
        taken.append(frame)

    rest = iter(frames(5))
    supervise("made", crashing_at(), lambda: rest, take, told_to(counters))
    assert counters.of("a").dropped == {"shutdown": 1}
    assert names(list(rest)) == ["a2", "a3", "a4"]


def test_frames_that_a_source_makes_are_watched_too(counters: FrameCounters) -> None:
    def closed(frame: Frame) -> None:
        raise LinkClosed

    supervise("capture", lambda _: iter(frames(2)), None, closed, told_to(counters))
    assert counters.of("a").dropped == {"shutdown": 1}


def test_frames_that_a_stage_swallows_show_in_the_books(counters: FrameCounters) -> None:
    def every_other(items: Iterator[Frame]) -> Iterator[Frame]:
        return (frame for frame in items if frame.seq % 2)

    assert supervised(every_other, 5, counters) == ["a1", "a3"]
    assert counters.of("a").dropped == {"crash": 3}


class Interrupted:
    """Frames of which each reading gives the next ones, and raises before some of them."""

    def __init__(self, count: int, *raises: int) -> None:
        self.begun = 0
        self._left = frames(count)
        self._raises = set(raises)

    def __call__(self) -> Iterator[Frame]:
        self.begun += 1
        while self._left:
            if self._left[0].seq in self._raises:
                self._raises.discard(self._left[0].seq)
                raise MadeError(f"before frame {self._left[0].seq}")
            yield self._left.pop(0)


def test_an_inlet_that_raises_is_opened_again_and_what_was_held_is_counted(counters: FrameCounters) -> None:
    def in_pairs(items: Iterator[Frame]) -> Iterator[Batch]:
        for frame in items:
            yield Batch((frame, next(items)), 0)

    out: list[Batch] = []
    inlet = Interrupted(6, 3)
    with capture_logs() as lines:
        supervise("made", in_pairs, inlet, out.append, told_to(counters))
    assert [names(batch.frames) for batch in out] == [["a0", "a1"], ["a3", "a4"]]
    assert counters.of("a").dropped == {"crash": 2}, "a2 was held, a5 found nobody to pair with"
    assert next(line["frames_lost"] for line in lines if line["event"] == "stage crashed") == 1
    assert inlet.begun == 2


def test_an_inlet_stays_open_when_the_stage_alone_crashes(counters: FrameCounters) -> None:
    inlet, out = Interrupted(4), list[Frame]()
    supervise("made", crashing_at(1), inlet, out.append, told_to(counters))
    assert names(out) == ["a0", "a2", "a3"]
    assert inlet.begun == 1


def test_an_inlet_that_raises_again_and_again_ends_the_run(counters: FrameCounters) -> None:
    def broken() -> Iterator[Frame]:
        raise MadeError("no frames")
        yield

    with pytest.raises(StageError, match="stage 'made' crashed more than 5 times in a minute: no frames"):
        supervise("made", crashing_at(), broken, lambda frame: None, told_to(counters))


def test_a_stage_that_ends_before_its_inlet_is_started_again(counters: FrameCounters) -> None:
    def two(items: Iterator[Frame]) -> Iterator[Frame]:
        return islice(items, 2)

    with capture_logs() as lines:
        assert supervised(two, 3, counters) == ["a0", "a1", "a2"]
    assert [line["event"] for line in lines] == ["stage crashed"]


def test_a_source_that_ends_and_does_not_say_why_has_crashed() -> None:
    given = until_over(frames(1), lambda: False)
    assert names([next(given)]) == ["a0"]
    with pytest.raises(StageError, match="the source ended, and neither was stopped nor said why"):
        next(given)
    assert names(list(until_over(frames(2), lambda: True))) == ["a0", "a1"]


@given(st.sets(st.integers(0, 29), max_size=MAX_CRASHES), st.sets(st.integers(0, 29)))
def test_whatever_a_stage_does_every_frame_comes_out_once_or_is_counted(crashes: set[int], swallowed: set[int]) -> None:
    def stage(items: Iterator[Frame]) -> Iterator[Frame]:
        return (frame for frame in crashing_at(*crashes)(items) if frame.seq not in swallowed)

    counters = FrameCounters()
    out = supervised(stage, 30, counters)
    assert out == [f"a{seq}" for seq in range(30) if seq not in crashes | swallowed]
    assert len(out) + sum(counters.of("a").dropped.values()) == 30


@given(st.lists(st.floats(0.0, 40.0), max_size=40))
def test_a_crash_is_one_too_many_when_five_others_lie_within_the_minute_before(waits: list[float]) -> None:
    limit, now_s, crashes = CrashLimit(), 0.0, []
    for wait in waits:
        now_s += wait
        recent = [crash for crash in crashes if now_s - crash <= WINDOW_S]
        assert limit.allows(now_s) == (len(recent) < MAX_CRASHES)
        crashes.append(now_s)


def test_what_was_dropped_is_not_held_any_more(counters: FrameCounters) -> None:
    held = Held(told_to(counters))
    held.note(Batch(tuple(frames(3)), 0))
    held.release(make_frame("a", 1))
    assert held.drop("crash") == 2
    assert held.drop("crash") == 0
    assert counters.of("a").dropped == {"crash": 2}


def test_workers_end_when_their_work_is_done() -> None:
    done: list[str] = []
    workers = StageThreads(on_failure=lambda: done.append("failed"))
    workers.start("one", lambda: done.append("one"))
    workers.start("two", lambda: done.append("two"))
    assert workers.join(PATIENCE_S)
    assert (sorted(done), workers.failure) == (["one", "two"], None)


def test_joining_gives_up_after_its_timeout() -> None:
    gate = threading.Event()
    workers = StageThreads(on_failure=lambda: None)
    workers.start("patient", lambda: gate.wait(PATIENCE_S) and None)
    assert not workers.join(0.01)
    gate.set()
    assert workers.join(PATIENCE_S)


def test_the_first_failure_is_kept_and_told_once() -> None:
    told: list[BaseException | None] = []
    workers = StageThreads(on_failure=lambda: told.append(workers.failure))
    first, second = MadeError("first"), MadeError("second")

    def fail(error: Exception) -> Callable[[], None]:
        def work() -> None:
            raise error

        return work

    workers.start("one", fail(first))
    assert workers.join(PATIENCE_S)
    workers.start("two", fail(second))
    assert workers.join(PATIENCE_S)
    assert told == [first]
    assert workers.failure is first
