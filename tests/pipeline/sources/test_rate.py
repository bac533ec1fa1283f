"""Which frames are inferred: evenly spaced ones, those with motion, and in no case the others."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame
from pipeline.settings.schema import InferenceRate, InferenceSettings, StreamSettings
from pipeline.sources.rate import RateGate, Rates, mark_skipped, phase_of, rates_of
from tests.pipeline.made_frames import make_frame

STILL = Picture.from_rgb(np.full((120, 160, 3), 90, np.uint8))


def chosen(times_s: Iterable[float], fps: float, phase: float = 0.0) -> list[int]:
    gate = RateGate(fps, phase)
    return [number for number, time_s in enumerate(times_s) if gate.look(time_s)]


def marks(frames: list[Frame], fps: InferenceRate, *, live: bool = False) -> str:
    """A letter for each frame: I inferred, u unchanged, b between."""
    given = list(mark_skipped(frames, lambda: Rates(fps, 1.0), live=live))
    assert [replace(frame, unchanged=False, between=False) for frame in given] == frames
    return "".join("u" if frame.unchanged else "b" if frame.between else "I" for frame in given)


def moving(count: int, rate: float = 25.0) -> list[Frame]:
    pictures = [Picture.from_rgb(np.full((120, 160, 3), 20 + 40 * (n % 5), np.uint8)) for n in range(count)]
    return [replace(make_frame("a", n, picture), time_s=n / rate) for n, picture in enumerate(pictures)]


def test_every_sixth_of_thirty_frames_a_second_makes_five() -> None:
    assert chosen((n / 30 for n in range(30)), 5.0) == [0, 6, 12, 18, 24]


def test_where_the_rates_do_not_divide_the_nearest_frame_is_taken() -> None:
    assert chosen((n / 25 for n in range(25)), 10.0) == [0, 2, 5, 7, 10, 12, 15, 17, 20, 22]


@pytest.mark.parametrize("fps", [25.0, 30.0, 1000.0])
def test_a_stream_that_is_no_faster_is_inferred_frame_by_frame(fps: float) -> None:
    made = np.random.default_rng(0)
    jittered = [n / 25 + made.uniform(0.0, 0.002) for n in range(200)]
    assert len(chosen(jittered, fps)) >= 198


def test_after_a_gap_there_is_no_burst() -> None:
    times = [n / 30 for n in range(30)] + [100 + n / 30 for n in range(30)]
    assert len(chosen(times, 5.0)) in (10, 11)


def test_a_step_back_in_time_begins_anew() -> None:
    assert chosen([10.0, 10.01, 3.0, 3.01], 5.0) == [0, 2]


@given(
    st.lists(st.floats(0.005, 0.2), min_size=20, max_size=200), st.sampled_from([2.0, 5.0, 10.0]), st.floats(0.0, 0.999)
)
def test_whatever_the_gaps_no_more_are_chosen_than_the_rate_says(gaps: list[float], fps: float, phase: float) -> None:
    times = np.cumsum(gaps).tolist()
    picked = chosen(times, fps, phase)
    assert picked[0] == 0
    assert len(picked) <= (times[-1] - times[0]) * fps + 2.5
    # And none is missing: between two that were chosen lies no more than a moment and what a frame can be off by.
    longest = max(gaps)
    for one, other in pairwise(picked):
        assert times[other] - times[one] <= 1.0 / fps + 2 * longest


def test_streams_take_turns_by_their_names() -> None:
    phases = [phase_of(f"camera-{number}") for number in range(64)]
    counts = np.histogram(phases, 8, (0.0, 1.0))[0]
    assert counts.min() >= 2
    assert phase_of("door") == phase_of("door")
    firsts = {chosen((n / 30 for n in range(30)), 5.0, phase)[1] for phase in phases}
    assert len(firsts) == 6


def test_at_the_full_rate_no_frame_is_looked_at() -> None:
    assert marks(moving(10), "full") == "I" * 10


def test_a_number_infers_so_many_frames_a_second_of_motion() -> None:
    assert marks(moving(25), 5.0) == "Ibbbb" * 5


def test_frames_of_live_streams_are_due_by_the_clock_they_share() -> None:
    frames = [replace(frame, clock_ns=2 * round(frame.time_s * 1e9)) for frame in moving(50)]
    assert marks(frames, 5.0, live=True).count("I") in (20, 21)


def test_a_frame_with_another_scene_is_inferred_at_once() -> None:
    frames = moving(8)
    frames[3:] = [replace(frame, cut_seq=3) for frame in frames[3:]]
    assert marks(frames, 2.0)[3] == "I"


@pytest.mark.parametrize("fps", ["auto", 5.0])
def test_while_nothing_moves_hardly_anything_is_inferred_at_any_rate(fps: InferenceRate) -> None:
    frames = [replace(make_frame("a", n, STILL), time_s=n / 25) for n in range(250)]
    said = marks(frames, fps)
    assert said[50:].count("I") in (7, 8, 9)
    assert "b" not in said[50:]


def test_auto_infers_all_motion() -> None:
    assert marks(moving(50), "auto") == "I" * 50


@pytest.mark.parametrize("fps", ["auto", 2.0])
def test_the_very_frame_in_which_motion_begins_is_inferred(fps: InferenceRate) -> None:
    frames = [replace(make_frame("a", n, STILL), time_s=n / 25) for n in range(110)]
    for n in range(90, 110):
        pixels = STILL.rgb().copy()
        pixels[40:80, 4 * (n - 90) : 4 * (n - 90) + 30] = 220
        frames[n] = replace(frames[n], picture=Picture.from_rgb(pixels))
    said = marks(frames, fps)
    assert said[89] != "b"
    assert said[90] == "I"


def test_another_rate_holds_from_the_next_frame_on() -> None:
    rates = iter([Rates("full", 1.0)] * 10 + [Rates(5.0, 1.0)] * 25 + [Rates("auto", 1.0)] * 10)
    given = mark_skipped(moving(45), lambda: next(rates), live=False)
    said = "".join("b" if frame.between else "I" for frame in given)
    assert said == "I" * 10 + "IbbbbIbbbbIbbbbIbbbbIbbbb" + "I" * 10


def test_a_streams_own_rate_and_crops_come_before_the_runs() -> None:
    settings = InferenceSettings(fps=5.0, crops=2)
    assert rates_of(StreamSettings(name="door", source="0"), settings) == Rates(5.0, 1.0, 2)
    own = StreamSettings(name="door", source="0", inference_fps="full", inference_crops=0)
    assert rates_of(own, settings) == Rates("full", 1.0, 0)


@pytest.mark.parametrize("fps", ["full", "auto", 5.0])
def test_frames_say_how_many_crops_they_may_have(fps: InferenceRate) -> None:
    given = mark_skipped(moving(10), lambda: Rates(fps, 1.0, 3), live=False)
    assert {frame.crops for frame in given} == {3}
