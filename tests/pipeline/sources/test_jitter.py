"""The jitter buffer, told when each picture of a made playlist comes."""

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.jitter import MAX_DELAY_S, MIN_DELAY_S, SHRINKS, STEADY_S, JitterBuffer

STEP_S = 0.25  # of pictures
SHRUNK_S = MAX_DELAY_S / SHRINKS  # in which any delay has shrunk


class Shown:
    """What becomes of pictures that are read ahead: each is taken once the one before was shown."""

    def __init__(self) -> None:
        self.buffer = JitterBuffer()
        self.due_s: list[float] = []
        self.late = 0  # pictures that came later than they were due
        self.notes: list[str] = []

    def __call__(self, pictures: Iterator[tuple[float, float]]) -> None:
        for time_s, came_s in pictures:
            before = self.due_s[-1] if self.due_s else came_s
            now_s = max(came_s, before)
            due_s = self.buffer.due(time_s, now_s, came_s)
            self.late += bool(self.due_s) and due_s > before + STEP_S + 1e-6
            self.due_s.append(due_s)
            if self.notes[-1:] != [self.buffer.note]:
                self.notes.append(self.buffer.note)


def playlist(
    seconds: float, segment_s: float = 2.0, begin_s: float = 0.0, late_s: dict[int, float] | None = None
) -> Iterator[tuple[float, float]]:
    """Stream times, and when they come: all of a segment at its end; those after a late one catch up at once."""
    delays = late_s or {}
    for number in range(round(seconds / STEP_S)):
        time_s = begin_s + number * STEP_S
        segment = int(time_s // segment_s)
        late = [(row + 1) * segment_s + delays[row] for row in delays if row <= segment]
        came_s = max([(segment + 1) * segment_s, *late])
        yield time_s, came_s


def test_a_jitter_buffer_grows_by_what_comes_late() -> None:
    buffer = JitterBuffer()
    assert buffer.due(0.0, 100.0) == 100.0 + MIN_DELAY_S
    assert buffer.due(1.0, 100.1) == 101.0 + MIN_DELAY_S
    assert buffer.note == "buffered by 0.5 s"
    assert buffer.due(2.0, 104.0) == 104.0  # 1.5 s late
    assert buffer.note == "buffered by 2 s"
    assert buffer.due(3.0, 105.1) == 105.1
    assert buffer.note == "buffered by 4 s"
    assert buffer.due(4.0, 104.1) == 106.1


def test_it_shrinks_again_once_the_source_has_been_steady_and_tells_so() -> None:
    shown = Shown()
    shown(playlist(STEADY_S + 50.0 + 3.0 / SHRINKS, late_s={10: 3.0}))
    assert shown.notes == [f"buffered by {delay} s" for delay in ("0.5", "4", "2", "1", "0.5")]
    assert shown.late == 1
    at_first, in_the_end = shown.due_s[0], shown.due_s[-1] - (len(shown.due_s) - 1) * STEP_S
    assert in_the_end == pytest.approx(at_first, abs=1e-6)
    steps_s = [later - earlier for earlier, later in pairwise(shown.due_s)]
    assert sorted(steps_s)[0] == pytest.approx(STEP_S * (1 - SHRINKS)), "a jump can be seen"


def test_it_stays_as_large_as_a_source_needs_that_is_late_again_and_again() -> None:
    shown, rows = Shown(), range(10, 2000, round(STEADY_S / 2 / 2.0))
    shown(playlist(4 * STEADY_S, late_s=dict.fromkeys(rows, 3.0)))
    assert shown.late == 1, "it forgot"
    assert shown.notes[-1] == "buffered by 4 s"


def test_it_stays_where_nobody_knows_when_pictures_came() -> None:
    buffer, now_s = JitterBuffer(), 0.0
    for number in range(round(3 * STEADY_S / STEP_S)):
        due_s = buffer.due(number * STEP_S, max(now_s, 3.0 if number else 0.0))
        now_s = due_s
    assert buffer.note == "buffered by 4 s"


@given(
    segment_s=st.sampled_from([1.0, 2.0, 6.0]),
    late_s=st.dictionaries(st.integers(1, 400), st.floats(0.0, 20.0), max_size=6),
)
def test_pictures_are_shown_in_order_at_nearly_their_steps_and_never_before_they_came(
    segment_s: float, late_s: dict[int, float]
) -> None:
    pictures = list(playlist(400.0 * segment_s + 2 * STEADY_S, segment_s, late_s=late_s))
    shown = Shown()
    shown(iter(pictures))
    assert all(due_s >= came_s - 1e-9 for due_s, (_, came_s) in zip(shown.due_s, pictures, strict=True))
    assert all(later - earlier >= STEP_S * (1 - SHRINKS) - 1e-9 for earlier, later in pairwise(shown.due_s))
    shown(playlist(STEADY_S + SHRUNK_S, segment_s, begin_s=pictures[-1][0] + STEP_S, late_s=late_s))
    assert shown.notes[-1] == f"buffered by {MIN_DELAY_S:g} s", "it has been steady long enough"
