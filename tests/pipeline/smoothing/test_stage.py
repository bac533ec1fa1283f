import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.types import Identified
from pipeline.settings.schema import SmoothingSettings
from pipeline.smoothing.stage import DOUBT_S, MAX_SHARE, LabelSmoother, SceneSmoother, Smoothers, smooth
from tests.pipeline.made_tracks import make_tracked, one_by_one

SETTINGS = SmoothingSettings()
RATE = 25


def smoothed(labels: list[int], rate: float = RATE, settings: SmoothingSettings = SETTINGS) -> list[int]:
    smoother = LabelSmoother(settings, 3)
    shown = []
    for index, label in enumerate(labels):
        found, _ = smoother.update(index / rate, np.array([7]), np.array([label], np.int32), np.float32([0.8]))
        shown.append(int(found[0]))
    return shown


class PlainTrack:
    """The smoothing of one track as the class's docstring words it, one number at a time."""

    def __init__(self, label: int) -> None:
        self.said: list[tuple[float, int, float]] = []  # weight, label and score of each detection
        self.time_s = -math.inf
        self.label = self.rival = label
        self.led_s = 0.0

    def update(self, time_s: float, label: int, score: float) -> tuple[int, float]:
        step, self.time_s = time_s - self.time_s, time_s
        share = min(1.0 - 0.5 ** (step / SETTINGS.half_life_s), MAX_SHARE)
        self.said = [(weight * (1.0 - share), was, s) for weight, was, s in self.said] + [(share, label, score)]
        evidence = [sum(weight * s * s for weight, was, s in self.said if was == one) for one in range(3)]
        best = max(range(3), key=evidence.__getitem__)
        leads = evidence[best] - evidence[self.label] > SETTINGS.margin * (evidence[best] + evidence[self.label])
        rival = best if leads else self.label
        self.led_s = (self.led_s if rival == self.rival else 0.0) + step
        self.rival = rival
        if self.led_s >= SETTINGS.hold_s:
            self.label = rival
        return self.label, evidence[self.label] / sum(weight * s for weight, _, s in self.said)


@given(st.integers(0, 2**32 - 1))
def test_all_tracks_at_once_are_smoothed_as_each_alone(seed: int) -> None:
    rng, smoother = np.random.default_rng(seed), LabelSmoother(SETTINGS, 3)
    alone: dict[int, PlainTrack] = {}
    alive: list[int] = []
    time_s, fresh = 0.0, 1
    for _ in range(25):
        time_s += float(rng.choice([0.03, 0.04, 0.5]))
        ended = [track for track in alive if rng.random() < 0.05]
        born = list(range(fresh, fresh + int(rng.integers(3))))
        fresh += len(born)
        alive = [track for track in alive if track not in ended] + born
        smoother.forget(np.array(ended, np.int64))
        ids = rng.permutation([track for track in alive if rng.random() < 0.8]).astype(np.int64)
        labels = rng.integers(0, 3, len(ids)).astype(np.int32)
        scores = rng.uniform(0.05, 1, len(ids)).astype(np.float32)
        shown, confidence = smoother.update(time_s, ids, labels, scores)
        assert (shown.dtype, confidence.dtype, len(shown)) == (np.int32, np.float32, len(ids))
        for row, (track, label, score) in enumerate(zip(ids.tolist(), labels.tolist(), scores.tolist(), strict=True)):
            expected = alone.setdefault(track, PlainTrack(label)).update(time_s, label, score)
            assert (shown[row], confidence[row]) == pytest.approx(expected)


def test_the_first_label_is_taken_at_once() -> None:
    assert smoothed([2]) == [2]


def test_single_wrong_frames_change_nothing() -> None:
    assert set(smoothed([1, 1, 2, 1, 1, 0, 1, 1, 2, 2, 1] * 5)) == {1}


def test_a_wrong_first_label_is_put_right() -> None:
    shown = smoothed([2] + [1] * 30)
    assert shown[-1] == 1
    assert shown.index(1) / RATE <= 0.5


def test_a_label_that_really_changes_is_shown_within_half_a_second() -> None:
    shown = smoothed([0] * 50 + [1] * 50)
    change = shown.index(1)
    assert 0.1 < (change - 50) / RATE <= 0.5
    assert set(shown[change:]) == {1}


@pytest.mark.parametrize("rate", [10, 12.5, 25, 50, 200])
def test_a_change_takes_the_same_time_at_any_frame_rate(rate: float) -> None:
    count = int(3 * rate)
    shown = smoothed([0] * count + [1] * count, rate=rate)
    assert (shown.index(1) - count) / rate == pytest.approx(0.22, abs=0.065)


@pytest.mark.parametrize("rate", [1, 2, 4])
def test_at_low_frame_rates_one_frame_alone_changes_nothing_and_two_do(rate: float) -> None:
    assert set(smoothed([0, 0, 0, 1, 0, 0, 0, 1, 0, 0], rate=rate)) == {0}
    assert smoothed([0, 0, 0, 1, 1], rate=rate)[-2:] == [0, 1]


def test_labels_that_alternate_evenly_do_not_flicker() -> None:
    shown = smoothed([0, 1] * 100)
    assert sum(a != b for a, b in pairwise(shown)) == 0


def test_a_small_lead_is_not_enough_however_long_it_lasts() -> None:
    slow = SmoothingSettings(half_life_s=0.5, margin=0.3)
    assert set(smoothed(([0, 1] * 9 + [1, 1]) * 20, settings=slow)) == {0}


def test_a_lead_shorter_than_hold_s_is_not_enough() -> None:
    settings = SmoothingSettings(half_life_s=0.02, margin=0.15, hold_s=0.25)
    smoother = LabelSmoother(settings, 2)
    labels = [0] * 10 + [1] * 6 + [0] * 5 + [1] * 6 + [0] * 5
    shown = [
        smoother.update(i / RATE, np.array([1]), np.array([label], np.int32), np.float32([0.9]))[0][0]
        for i, label in enumerate(labels)
    ]
    assert set(shown) == {0}


def test_confidence_is_the_mean_score_of_a_label_that_never_changes() -> None:
    smoother = LabelSmoother(SETTINGS, 2)
    for index in range(100):
        _, scores = smoother.update(
            index / RATE, np.array([1]), np.array([1], np.int32), np.float32([0.6 if index % 2 else 0.4])
        )
    assert scores[0] == pytest.approx(0.52, abs=0.02)  # sure detections count for more


def test_tracks_do_not_disturb_each_other_and_come_back_in_the_order_asked() -> None:
    smoother = LabelSmoother(SETTINGS, 3)
    ids, labels = np.array([9, 2, 5]), np.array([0, 1, 2], np.int32)
    for index in range(20):
        order = np.random.default_rng(index).permutation(3)
        found, scores = smoother.update(index / RATE, ids[order], labels[order], np.float32([0.9, 0.9, 0.9]))
        assert found.tolist() == labels[order].tolist()
        assert scores == pytest.approx([0.9] * 3)


def test_an_ended_track_is_forgotten() -> None:
    smoother = LabelSmoother(SETTINGS, 2)
    for index in range(50):
        smoother.update(index / RATE, np.array([1]), np.array([0], np.int32), np.float32([0.9]))
    smoother.forget(np.array([1, 99]))
    found, scores = smoother.update(2.1, np.array([1]), np.array([1], np.int32), np.float32([0.7]))
    assert found.tolist() == [1]
    assert scores == pytest.approx([0.7])


def test_a_frame_without_tracks() -> None:
    found, scores = LabelSmoother(SETTINGS, 2).update(0.0, np.zeros(0, np.int64), np.zeros(0, np.int32), np.float32([]))
    assert found.shape == scores.shape == (0,)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([-1.0, 0.0, 0.04, 5.0, 5000.0]), st.integers(0, 3), st.integers(0, 2), st.floats(0, 1)
        ),
        min_size=1,
    )
)
def test_confidence_is_a_number_from_0_to_1_whatever_comes(rows: list[tuple[float, int, int, float]]) -> None:
    smoother, time_s = LabelSmoother(SETTINGS, 3), 0.0
    for gap_s, track, label, score in rows:
        time_s += gap_s
        found, scores = smoother.update(time_s, np.array([track]), np.array([label], np.int32), np.float32([score]))
        assert 0 <= found[0] < 3
        assert 0 <= scores[0] <= 1


def scenes(frames: list[tuple[float, float]], settings: SmoothingSettings = SETTINGS) -> list[int]:
    smoother = SceneSmoother(settings, 2)
    return [smoother.update(i / RATE, np.array(row, np.float32))[1] for i, row in enumerate(frames)]


def test_a_scene_is_named_after_hold_s_of_confidence() -> None:
    shown = scenes([(0.9, 0.1)] * 20, SmoothingSettings(hold_s=0.25))
    assert shown[0] == -1
    assert shown.index(0) / RATE == pytest.approx(0.25, abs=0.05)


def test_without_confidence_there_is_no_scene() -> None:
    smoother = SceneSmoother(SETTINGS, 4)
    for index in range(100):
        _, label = smoother.update(index / RATE, np.array([0.4, 0.3, 0.2, 0.1], np.float32))
        assert label == -1


def test_a_scene_that_grows_doubtful_loses_its_name() -> None:
    smoother = SceneSmoother(SETTINGS, 4)
    shown = [
        smoother.update(i / RATE, np.array([0.91, 0.03, 0.03, 0.03] if i < 50 else [0.25] * 4, np.float32))[1]
        for i in range(150)
    ]
    assert shown[49] == 0
    assert shown[-1] == -1


def test_a_new_scene_replaces_the_old_one_once() -> None:
    shown = scenes([(0.9, 0.1)] * 50 + [(0.1, 0.9)] * 50)
    change = shown.index(1)
    assert 0.1 < (change - 50) / RATE <= 0.5
    assert (set(shown[2:change]), set(shown[change:])) == ({0}, {1})


def test_a_scene_that_is_hardly_more_probable_for_half_a_second_does_not_take_over() -> None:
    assert set(scenes([(0.6, 0.4)] * 50 + [(0.46, 0.54)] * 13 + [(0.6, 0.4)] * 50)[20:]) == {0}


def test_a_scene_that_nothing_says_for_a_moment_keeps_its_name() -> None:
    smoother = SceneSmoother(SETTINGS, 4)
    rows = [[0.91, 0.03, 0.03, 0.03]] * 50 + [[0.25] * 4] * int(DOUBT_S * RATE) + [[0.91, 0.03, 0.03, 0.03]] * 50
    shown = [smoother.update(i / RATE, np.array(row, np.float32))[1] for i, row in enumerate(rows)]
    assert set(shown[20:]) == {0}


def test_a_flash_does_not_change_the_scene() -> None:
    shown = scenes([(0.9, 0.1)] * 50 + [(0.001, 0.999)] * 2 + [(0.9, 0.1)] * 50)
    assert set(shown[20:]) == {0}


def test_smoothed_probabilities_add_up_to_1_even_after_a_zero() -> None:
    smoother = SceneSmoother(SETTINGS, 3)
    for row in ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.2, 0.3, 0.5]):
        probabilities, _ = smoother.update(0.0, np.array(row, np.float32))
        assert probabilities.sum() == pytest.approx(1.0)
        assert np.isfinite(probabilities).all()


def test_a_steady_scene_keeps_its_own_probability() -> None:
    smoother = SceneSmoother(SETTINGS, 2)
    for index in range(50):
        probabilities, _ = smoother.update(index / RATE, np.array([0.7, 0.3], np.float32))
    assert probabilities == pytest.approx([0.7, 0.3], abs=1e-5)


def test_a_model_without_scenes() -> None:
    probabilities, label = SceneSmoother(SETTINGS, 0).update(0.0, np.zeros(0, np.float32))
    assert (len(probabilities), label) == (0, -1)


def test_the_stage_smooths_each_stream_by_itself_and_forgets_ended_tracks() -> None:
    box = (10, 10, 50, 110)
    items = []
    for index in range(60):
        for stream, label in (("a", 0), ("b", 1)):
            tracked = make_tracked(index / RATE, {1: box}, labels=[label], scene=(0.9, 0.1), stream=stream)
            items.append(Identified.with_names(tracked, ()))
    items.append(Identified.with_names(make_tracked(3.0, objects_ended=[1], stream="a"), ()))
    items.append(Identified.with_names(make_tracked(3.1, {1: box}, labels=[1], stream="a"), ()))
    results = one_by_one(smooth, items, Smoothers(SETTINGS, 2, 2))
    assert [result.labels.tolist() for result in results[-4:]] == [[0], [1], [], [1]]
    assert results[-3].scene_label == 0
    assert [result.frame for result in results] == [item.frame for item in items]


def test_a_stage_that_begins_anew_still_knows_the_labels_and_the_scene() -> None:
    smoothers = Smoothers(SETTINGS, 2, 2)
    box = (10, 10, 50, 110)
    steady = [make_tracked(i / RATE, {1: box}, labels=[0], scene=(0.9, 0.1)) for i in range(50)]
    one_by_one(smooth, [Identified.with_names(tracked, ()) for tracked in steady], smoothers)
    flash = Identified.with_names(make_tracked(2.0, {1: box}, labels=[1], scene=(0.1, 0.9)), ())
    (result,) = one_by_one(smooth, [flash], smoothers)
    assert (result.labels.tolist(), result.scene_label) == ([0], 0)


def test_labels_of_a_cautious_network_change_too() -> None:
    """Scores of 0.1 never lead by the margin themselves; as shares of the evidence they do."""
    smoother, ids = LabelSmoother(SETTINGS, 2), np.array([1], np.int64)
    labels = [0] + [1] * 40
    scores = np.array([0.1], np.float32)
    shown = [smoother.update(i / 25, ids, np.array([one], np.int32), scores)[0][0] for i, one in enumerate(labels)]
    assert shown[0] == 0
    assert shown[-1] == 1


rows_of_a_track = st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1, width=32)), min_size=1, max_size=60)


@given(rows_of_a_track, st.sampled_from([0.02, 0.04, 0.3, 1.5]), st.floats(0, 0.3), st.floats(0, 0.3))
def test_no_label_is_shown_that_was_never_seen(
    rows: list[tuple[int, float]], step_s: float, margin: float, hold_s: float
) -> None:
    smoother = LabelSmoother(SmoothingSettings(margin=margin, hold_s=hold_s), 5)
    seen = set()
    for index, (label, score) in enumerate(rows):
        seen.add(label)
        found, _ = smoother.update(index * step_s, np.array([1]), np.array([label], np.int32), np.float32([score]))
        assert int(found[0]) in seen


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.04, 0.1, 1.0, 60.0]), st.floats(0, 1, width=32)), min_size=1))
def test_a_label_that_never_changes_is_shown_throughout(rows: list[tuple[float, float]]) -> None:
    smoother, time_s = LabelSmoother(SmoothingSettings(margin=0.0, hold_s=0.0), 3), 0.0
    for gap_s, score in rows:
        time_s += gap_s
        found, _ = smoother.update(time_s, np.array([1]), np.array([2], np.int32), np.float32([score]))
        assert found.tolist() == [2]


@given(rows_of_a_track, st.floats(0.01, 1), st.floats(1 / 8, 8))
def test_only_the_ratio_of_times_matters(rows: list[tuple[int, float]], step_s: float, factor: float) -> None:
    """All times of a track and all settings, multiplied by the same number: the same is shown."""
    slow = LabelSmoother(SmoothingSettings(half_life_s=factor * 0.2, hold_s=0.0), 5)
    fast = LabelSmoother(SmoothingSettings(half_life_s=0.2, hold_s=0.0), 5)
    for index, (label, score) in enumerate(rows):
        seen = np.array([1]), np.array([label], np.int32), np.float32([score])
        assert slow.update(factor * index * step_s, *seen)[1] == pytest.approx(fast.update(index * step_s, *seen)[1])


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(2**-6, 1, width=32)), min_size=2, max_size=60))
def test_the_same_evidence_in_twice_as_many_frames_is_the_same_evidence(rows: list[tuple[int, float]]) -> None:
    """Each detection but the first twice, the first time half an interval earlier: confidence stays what it was."""
    settings = SmoothingSettings(half_life_s=0.2, margin=1.0)  # so high that the label stays, and can be compared
    once, twice = LabelSmoother(settings, 5), LabelSmoother(settings, 5)
    for index, (label, score) in enumerate(rows):
        seen = np.array([1]), np.array([label], np.int32), np.float32([score])
        _, expected = once.update(0.1 * index, *seen)
        if index:
            twice.update(0.1 * index - 0.05, *seen)
        _, found = twice.update(0.1 * index, *seen)
        if index:  # the first frame was shown once at the same time: nothing is added to it
            assert found == pytest.approx(expected, abs=1e-5)


@given(st.permutations(range(5)), rows_of_a_track)
def test_labels_have_no_order(order: list[int], rows: list[tuple[int, float]]) -> None:
    """Confidence is that of the same label under other numbers, whatever they are."""
    settings = SmoothingSettings(margin=1.0)
    plain, renamed = LabelSmoother(settings, 5), LabelSmoother(settings, 5)
    for index, (label, score) in enumerate(rows):
        ids, scores = np.array([1]), np.float32([score])
        shown, confidence = plain.update(0.04 * index, ids, np.array([label], np.int32), scores)
        other, same = renamed.update(0.04 * index, ids, np.array([order[label]], np.int32), scores)
        assert (order[shown[0]], confidence) == (other[0], pytest.approx(same))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1e-6, 0.04, 1.0, 600.0]), st.integers(0, 2)), max_size=80))
def test_a_scene_that_was_never_probable_is_never_named(rows: list[tuple[float, int]]) -> None:
    smoother, time_s = SceneSmoother(SETTINGS, 4), 0.0
    for gap_s, scene in rows:
        time_s += gap_s
        said = np.full(4, 0.01, np.float32)
        said[scene] = 0.97
        probabilities, label = smoother.update(time_s, said)
        assert label != 3
        assert probabilities.sum() == pytest.approx(1.0, abs=1e-5)
        assert np.isfinite(probabilities).all()


def test_certain_frames_for_an_hour_do_not_make_a_scene_unchangeable() -> None:
    smoother = SceneSmoother(SETTINGS, 2)
    for index in range(3600 * 5):
        smoother.update(index / 5, np.array([1.0, 0.0], np.float32))
    labels = [smoother.update(3600 + index / RATE, np.array([0.0, 1.0], np.float32))[1] for index in range(RATE)]
    assert labels.index(1) / RATE <= 0.5
