"""Lives of tracks, against what a plain loop over all their frames says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.events.history import FOLD, POINTS, STEP_S, FaceViews, TrackHistory
from pipeline.events.zones import Timestamp

frames = st.lists(st.tuples(st.floats(0.01, 0.6), st.sets(st.integers(1, 4), max_size=4)), min_size=1, max_size=200)


def note(
    known: TrackHistory, time_s: float, boxes: dict[int, tuple[float, float, float, float]], score: float = 0.5
) -> None:
    ids, count = np.array(list(boxes), np.int64), len(boxes)
    array = np.array(list(boxes.values()), np.float32).reshape(-1, 4)
    scores, labels = np.full(count, score, np.float32), np.zeros(count, np.int32)
    known.note(Timestamp(round(time_s * 1e9), time_s), ids, array, scores, labels, False)


@settings(deadline=None, max_examples=60)
@given(frames, st.integers(0, 2**32 - 1))
def test_a_life_is_that_of_its_frames(steps: list[tuple[float, set[int]]], seed: int) -> None:
    rng, known, time_s = np.random.default_rng(seed), TrackHistory(foot=True), 0.0
    lives: dict[int, list[tuple[float, float, tuple[float, ...]]]] = {}
    for gap, tracks in steps:
        time_s += gap
        boxes = {track: (float(x), 0.0, float(x) + 10.0, 20.0) for track in tracks for x in [rng.integers(500)]}
        score = round(float(rng.random()), 3)
        note(known, time_s, boxes, score)
        for track, box in boxes.items():
            lives.setdefault(track, []).append((time_s, score, box))
        if rng.random() < 0.1 and lives:
            known.of(rng.choice(list(lives)))  # to look changes nothing
    assert known.ids == sorted(lives)
    for track, life in lives.items():
        told = known.of(track)
        assert told.duration_s == pytest.approx(life[-1][0] - life[0][0])
        assert told.first_ns == round(life[0][0] * 1e9) and told.last_ns == round(life[-1][0] * 1e9)
        assert (told.box, told.score) == (life[-1][2], life[-1][1])
        assert told.best_score == max(score for _, score, _ in life)
        assert len(told.path) <= POINTS
        positions = {(round(at - life[0][0], 2), box[0] + 5.0, box[3]) for at, _, box in life}
        assert set(told.path) <= positions, "a point of the path is where the track was"
        assert told.path[0][1] == life[0][2][0] + 5.0 and told.path[-1][1] == life[-1][2][0] + 5.0
        assert [point[0] for point in told.path] == sorted(point[0] for point in told.path)


def test_a_long_path_keeps_even_steps() -> None:
    known = TrackHistory(foot=True)
    for step in range(5000):
        note(known, step * 0.04, {1: (step, 0, step + 10, 20)})
    path = known.of(1).path
    gaps = np.diff([point[0] for point in path])[:-1]
    assert POINTS // 2 <= len(path) <= POINTS
    assert gaps.max() <= gaps.min() + 2 * STEP_S
    assert (path[0][0], path[-1][0]) == (0.0, 199.96)


def test_a_long_life_costs_no_more_memory() -> None:
    known = TrackHistory(foot=True)
    for step in range(3 * FOLD):
        note(known, step * 0.5, {1: (0, 0, 10, 20)})
    assert len(known._noted) < FOLD


def test_thousands_of_tracks_are_as_good_as_one() -> None:
    known, count = TrackHistory(foot=True), 3000
    for step in range(3):
        note(known, step * 0.5, {track: (step, 0, step + 10, track) for track in range(1, count)})
    assert len(known.ids) == count - 1
    assert known.of(count - 1).path == ((0.0, 5.0, count - 1.0), (0.5, 6.0, count - 1.0), (1.0, 7.0, count - 1.0))


def test_the_best_view_of_a_face_is_large_and_sure() -> None:
    known = TrackHistory(foot=False)
    for step, (side, score) in enumerate([(10.0, 0.9), (30.0, 0.8), (40.0, 0.1)]):
        boxes, landmarks = np.array([[0, 0, side, side]], np.float32), np.full((2, 5, 2), step, np.float32)
        views = FaceViews(landmarks, np.array([1]), np.array([7]))
        known.note(Timestamp(step, step * 1.0), np.array([3]), boxes, np.array([score], np.float32), views, False)
    view = known.of(3).best_view
    assert view is not None
    assert (view.box.tolist(), view.owner, view.landmarks[0, 0]) == ([0.0, 0.0, 30.0, 30.0], 7, 1.0)


def test_a_forgotten_track_is_gone_and_the_others_stay() -> None:
    known = TrackHistory(foot=True)
    note(known, 0.0, {1: (0, 0, 10, 20), 5: (50, 0, 60, 20)})
    known.forget([1])
    assert known.ids == [5]
    assert known.of(5).box == (50.0, 0.0, 60.0, 20.0)
