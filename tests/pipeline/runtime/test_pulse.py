"""Signs of life: what counts as being stuck, and what does not."""

import threading
import time
from collections.abc import Iterator

from pipeline.frames.types import Frame
from pipeline.runtime.pulse import LONGEST_LOOK_S, OPENINGS, UNWATCHED, Opening, Pulse, Silence
from pipeline.runtime.supervision import supervise
from tests.pipeline.made_frames import make_frame

PATIENCE_S = 30.0  # no test waits this long unless it fails


def nothing(frame: Frame, cause: str) -> None:
    """Take note of no frame."""


def test_a_process_without_stages_is_not_watched() -> None:
    pulse = Pulse()
    assert pulse.sign(5) == UNWATCHED
    with pulse.stage():
        assert pulse.sign(5) == 5
    assert pulse.sign(6) == UNWATCHED


def test_the_stage_that_is_longest_at_its_item_counts() -> None:
    pulse = Pulse()
    with pulse.stage() as one, pulse.stage() as other:
        one.begin()
        first = pulse.sign(time.monotonic_ns())
        other.begin()
        assert pulse.sign(time.monotonic_ns()) == first == one.since_ns
        one.rest()
        assert pulse.sign(time.monotonic_ns()) == other.since_ns


class Watched:
    """A stage that is driven in a thread, and stops where it is told to until it may go on."""

    def __init__(self, where: str) -> None:
        self.pulse, self.there, self._gate, self._where = Pulse(), threading.Event(), threading.Event(), where
        self._thread = threading.Thread(target=self._drive, daemon=True)
        self._thread.start()
        assert self.there.wait(PATIENCE_S)

    def _drive(self) -> None:
        supervise("made", self._stage, self._inlet, self._outlet, nothing, self.pulse)

    def _at(self, place: str) -> None:
        if place == self._where:
            self.there.set()
            self._gate.wait(PATIENCE_S)

    def _inlet(self) -> Iterator[Frame]:
        yield make_frame("a", 0)
        self._at("inlet")

    def _stage(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        for frame in frames:
            self._at("stage")
            yield frame

    def _outlet(self, frame: Frame) -> None:
        self._at("outlet")

    def is_silent(self) -> bool:
        """Whether two looks, one after the other, see the same sign."""
        first = self.pulse.sign(time.monotonic_ns())
        time.sleep(0.001)
        return first == self.pulse.sign(time.monotonic_ns()) != UNWATCHED

    def end(self) -> None:
        self._gate.set()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        assert self.pulse.sign(1) == UNWATCHED


def test_a_stage_that_stays_at_an_item_is_silent() -> None:
    watched = Watched("stage")
    assert watched.is_silent()
    watched.end()


def test_a_stage_that_waits_for_an_item_is_not() -> None:
    watched = Watched("inlet")
    assert not watched.is_silent()
    watched.end()


def test_a_stage_that_waits_for_room_behind_it_is_not() -> None:
    watched = Watched("outlet")
    assert not watched.is_silent()
    watched.end()


def test_silence_grows_while_the_sign_stays_and_ends_when_it_changes() -> None:
    silence = Silence()
    assert [silence.heard(7, at) for at in (10.0, 10.5, 11.5)] == [0.0, 0.5, 1.5]
    assert silence.heard(8, 12.0) == 0.0
    assert silence.heard(8, 12.25) == 0.25


def test_whoever_is_not_watched_is_never_silent() -> None:
    silence = Silence()
    assert [silence.heard(UNWATCHED, at) for at in (0.0, 100.0, 1000.0)] == [0.0, 0.0, 0.0]


def test_an_observer_that_slept_has_not_listened() -> None:
    silence = Silence()
    silence.heard(7, 0.0)
    assert silence.heard(7, 3600.0) == LONGEST_LOOK_S


def test_the_first_process_may_take_its_time_to_open_and_a_later_one_a_multiple_of_that() -> None:
    opening = Opening()
    opening.begin(0.0)
    assert [opening.late_s(UNWATCHED, float(at)) for at in range(0, 1000, 100)] == [0.0] * 10
    opening.begin(0.0)
    opening.end(0.5)
    assert opening.late_s(UNWATCHED, 1000.0) == 0.0  # done, or it waits for its first item
    opening.begin(2000.0)
    late = [opening.late_s(UNWATCHED, 2000.0 + at * LONGEST_LOOK_S) for at in range(1, 2 * OPENINGS)]
    assert late[: OPENINGS // 2] == [0.0] * (OPENINGS // 2) and late[-1] > 0.0
    assert opening.late_s(7, 3000.0) == opening.late_s(UNWATCHED, 4000.0) == 0.0


def test_the_first_stage_is_told_at_once() -> None:
    """So that a process that stops right after it has begun is not taken for one that opens what it needs."""
    pulse = Pulse()
    assert not pulse.begun.is_set()
    with pulse.stage():
        assert pulse.begun.is_set()
