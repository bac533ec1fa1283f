"""Stream time, whatever the time stamps of a source do."""

import itertools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.sources.timeline import MAX_STEP_S, Timeline

STEPS_S = st.sampled_from([1 / 60, 0.04, 0.1, 1.0])
BREAKS_S = st.one_of(st.floats(60.0, 1e6), st.floats(-1e6, -60.0))


@given(
    st.lists(st.one_of(st.none(), st.just("restart"), st.floats(-1e6, 1e6, allow_nan=False)), max_size=30),
    st.sampled_from(["media", "clock"]),
)
def test_it_always_rises_from_zero(events: list[float | str | None], kind: str) -> None:
    timeline = Timeline() if kind == "media" else Timeline.of_clock()
    times: list[float] = []
    for event in events:
        if isinstance(event, str):
            timeline.restart()
        else:
            times.append(timeline.at(event))
    assert times[:1] in ([], [0.0])
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


@given(STEPS_S, st.lists(st.integers(1, 5), min_size=1, max_size=40), st.floats(-1e5, 1e5))
def test_it_follows_the_own_steps_of_a_source_where_they_are_sane(
    step_s: float, steps: list[int], start_s: float
) -> None:
    source_s = [start_s + step_s * index for index in itertools.accumulate(steps, initial=0)]
    timeline = Timeline(step_s)
    assert [timeline.at(time_s) for time_s in source_s] == pytest.approx([s - start_s for s in source_s], abs=1e-6)


@given(STEPS_S, st.lists(st.tuples(st.integers(3, 20), BREAKS_S), min_size=1, max_size=5))
def test_a_break_takes_one_normal_step_and_the_times_after_it_are_followed(
    step_s: float, runs: list[tuple[int, float]]
) -> None:
    source_s, times = 0.0, []
    timeline = Timeline(step_s)
    for count, jump_s in runs:
        for _ in range(count):
            times.append(timeline.at(source_s))
            source_s += step_s
        source_s += jump_s
    assert times == pytest.approx([step_s * index for index in range(len(times))], abs=1e-6)


@given(STEPS_S, st.lists(st.one_of(st.floats(-1e6, -60.0), st.floats(1e3, 1e6)), min_size=1, max_size=6), st.data())
def test_wrong_time_stamps_cost_the_others_nothing(step_s: float, wrong_s: list[float], data: st.DataObject) -> None:
    # Those that go on from each other in sane steps are no single wrong ones, but other times that begin there.
    assume(not any(0 < after - before <= MAX_STEP_S for before, after in itertools.pairwise(wrong_s)))
    source_s = [step_s * index for index in range(40)]
    at = data.draw(st.integers(2, 30))
    source_s[at : at + len(wrong_s)] = wrong_s
    timeline = Timeline(step_s)
    times = [timeline.at(time_s) for time_s in source_s]
    own = [*range(at), *range(at + len(wrong_s), 40)]
    assert [times[index] for index in own] == pytest.approx([step_s * index for index in own], abs=1e-6)


@given(STEPS_S, st.sets(st.integers(1, 37)), st.booleans())
def test_a_time_twice_is_off_by_less_than_a_step_and_all_others_are_at_their_own(
    step_s: float, twice: set[int], skips: bool
) -> None:
    twice = {index for index in twice if index - 1 not in twice}
    timeline, expected, times = Timeline(step_s), [], []
    for index in range(40):
        own = index in twice and skips  # the picture has the time of the one before it, in place of its own
        times.append(timeline.at(step_s * (index - own)))
        expected.append(step_s * index)
        if index in twice and not skips:  # there is one picture more
            between_s = timeline.at(step_s * index)
            assert times[-1] < between_s < times[-1] + step_s
    off = [abs(time_s - own_s) for time_s, own_s in zip(times, expected, strict=True)]
    assert all(error_s < (step_s if skips and index in twice else 1e-6) for index, error_s in enumerate(off))


@pytest.mark.parametrize(
    ("source_times", "stream_times"),
    [
        pytest.param([1.4, 1.5, 1.6], [0.0, 0.1, 0.2], id="a file that does not begin at 0"),
        pytest.param([0.0, 0.5, 0.7], [0.0, 0.5, 0.7], id="a varying rate"),
        pytest.param([None, None, None], [0.0, 0.1, 0.2], id="no times at all"),
        pytest.param([0.0, 0.1, 0.1, 0.3], [0.0, 0.1, 0.15, 0.3], id="a time twice"),
        pytest.param([0.0, 0.0, 0.1, 0.2], [0.0, 0.1, 0.15, 0.2], id="the first time twice"),
        pytest.param([0.0, 0.1, None, 0.3], [0.0, 0.1, 0.2, 0.3], id="one without a time"),
        pytest.param([5.0] * 4, [0.0, 0.1, 0.2, 0.3], id="the same time for all"),
        pytest.param([0.0, MAX_STEP_S, MAX_STEP_S + 0.1], [0.0, MAX_STEP_S, MAX_STEP_S + 0.1], id="a long pause"),
        pytest.param([0.0, 0.1, 3600.1, 3600.2], [0.0, 0.1, 0.2, 0.3], id="a jump ahead by an hour"),
        pytest.param([0.0, 0.1, -86400.0, -86399.9], [0.0, 0.1, 0.2, 0.3], id="a jump back by a day"),
        pytest.param([0.0, 0.1, 0.2, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3, 0.4], id="times that begin again"),
        pytest.param([0.0, 0.1, 99.0, 0.3, 0.4], [0.0, 0.1, 0.2, 0.3, 0.4], id="one wrong time"),
    ],
)
def test_timeline(source_times: list[float | None], stream_times: list[float]) -> None:
    timeline = Timeline(0.1)
    assert [timeline.at(source_s) for source_s in source_times] == pytest.approx(stream_times)


def test_a_step_that_the_source_states_wrongly_is_measured() -> None:
    timeline = Timeline(1 / 25)
    for index in range(5):
        timeline.at(index / 60)
    assert timeline.step_s == pytest.approx(1 / 60)


def test_a_step_is_the_stated_one_where_times_are_rounded() -> None:
    timeline = Timeline(1 / 60)
    for index in range(20):
        timeline.at(round(index / 60, 3))
    assert timeline.step_s == 1 / 60


def test_a_very_slow_source_has_long_steps() -> None:
    timeline = Timeline(30.0)
    assert [timeline.at(30.0 * index) for index in range(3)] == [0.0, 30.0, 60.0]


def test_a_clock_may_stand_still_for_an_hour() -> None:
    timeline = Timeline.of_clock()
    assert [timeline.at(time_s) for time_s in (7.0, 7.1, 3607.1)] == pytest.approx([0.0, 0.1, 3600.1])


@given(st.integers(2, 12), st.integers(1, 5))
def test_passes_of_a_loop_are_of_one_length_and_can_be_skipped(count: int, passes: int) -> None:
    shown, skipped = Timeline(), Timeline()
    times = []
    for _ in range(passes + 2):
        times += [shown.at(index * 0.1) for index in range(count)]
        shown.restart()
    for index in range(count):
        skipped.at(index * 0.1)
    skipped.restart()
    skipped.skip(passes)
    assert skipped.at(0.0) == pytest.approx(times[(passes + 1) * count])
