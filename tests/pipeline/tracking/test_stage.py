from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.spec import Thresholds
from pipeline.frames.types import Skipped, Tracks
from pipeline.settings.schema import TrackingSettings
from pipeline.tracking.association import solver
from pipeline.tracking.found import TrackerInput
from pipeline.tracking.stage import Trackers, track
from pipeline.tracking.tracker import Tracker
from pipeline.tracking.update import TrackingRules
from tests.pipeline.made_tracks import Box, boxes_array, make_observed, one_by_one

SETTINGS = TrackingSettings(confirm_frames=3, max_lost_s=1.5, low_score_ratio=0.4)
SURE = 0.5
THRESHOLDS = Thresholds(object_score=SURE, face_score=SURE)
PERSON, DOG = 0, 1
RATE = 25


def step(
    tracker: Tracker, time_s: float, boxes: Sequence[Box], scores: Sequence[float] = (), labels: Sequence[int] = ()
) -> Tracks:
    seen = TrackerInput(
        boxes_array(boxes),
        np.array(scores or [0.9] * len(boxes), np.float32),
        np.array(labels or [0] * len(boxes), np.int32),
    )
    return tracker.update(time_s, seen, size=(4096, 4096))[0]


def walk(x: float, y: float, x_per_s: float, width: float = 40, height: float = 100) -> Callable[[float], Box]:
    return lambda t: (x + x_per_s * t, y, x + x_per_s * t + width, y + height)


def owners(tracker: Tracker, times: Sequence[float], *things: Callable[[float], Box]) -> list[list[int]]:
    """For every frame the ids of the things, 0 for none."""
    rows = []
    for time_s in times:
        tracks = step(tracker, time_s, [thing(time_s) for thing in things])
        ids = dict(zip(tracks.rows.tolist(), tracks.ids.tolist(), strict=True))
        rows.append([ids.get(row, 0) for row in range(len(things))])
    return rows


def test_a_track_is_shown_from_its_third_detection_on() -> None:
    ids = owners(Tracker(TrackingRules(SETTINGS, SURE)), [0, 0.04, 0.08, 0.12], walk(10, 10, 20))
    assert ids == [[0], [0], [1], [1]]


def test_with_confirm_frames_1_a_track_is_shown_at_once() -> None:
    tracks = step(
        Tracker(TrackingRules(TrackingSettings(confirm_frames=1), SURE)), 0.0, [(10, 10, 50, 110), (200, 10, 240, 110)]
    )
    assert tracks.ids.tolist() == [1, 2]
    assert tracks.rows.tolist() == [0, 1]


def test_the_box_follows_a_thing_that_moves_steadily() -> None:
    tracker, thing = Tracker(TrackingRules(SETTINGS, SURE)), walk(10, 10, 200)
    for index in range(50):
        tracks = step(tracker, index / RATE, [thing(index / RATE)])
    np.testing.assert_allclose(tracks.boxes[0], thing(49 / RATE), atol=0.5)


def test_the_box_jitters_less_than_its_detections() -> None:
    tracker, noise = Tracker(TrackingRules(SETTINGS, SURE)), np.random.default_rng(1).normal(0, 4, (200, 4))
    truth = np.array([100, 100, 180, 260], np.float32)
    shown = [step(tracker, i / RATE, [tuple(truth + shift)]).boxes for i, shift in enumerate(noise)]
    errors = np.concatenate(shown[20:]) - truth
    assert errors.std() < 0.75 * noise[20:].std()


def test_things_that_cross_keep_their_ids() -> None:
    times = [index / RATE for index in range(76)]
    ids = owners(Tracker(TrackingRules(SETTINGS, SURE)), times, walk(0, 50, 100), walk(300, 60, -100))
    assert ids[10] == ids[-1] == [1, 2]
    assert all(row == [1, 2] for row in ids[3:])


def test_an_occlusion_shorter_than_max_lost_s_keeps_the_id() -> None:
    tracker, thing = Tracker(TrackingRules(SETTINGS, SURE)), walk(0, 50, 60)
    shown = []
    for index in range(100):
        hidden = 40 <= index < 70  # 1.2 s, in which it moves nearly twice its width
        shown.append(step(tracker, index / RATE, [] if hidden else [thing(index / RATE)]))
    assert all(not len(tracks.ids) for tracks in shown[40:70])
    assert {int(id_) for tracks in shown for id_ in tracks.ids} == {1}
    assert not any(len(tracks.ended) for tracks in shown)


def test_a_thing_that_shrank_until_it_was_hidden_is_found_again_at_its_last_size() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(65):
        size = 105 - 3 * min(index, 25)
        visible = index <= 25 or index >= 60
        tracks = step(tracker, index / RATE, [(300 - size, 200 - size, 300 + size, 200 + size)] if visible else [])
    assert tracks.ids.tolist() == [1]


def test_a_track_ends_once_after_max_lost_s_and_its_id_is_not_used_again() -> None:
    tracker, thing = Tracker(TrackingRules(SETTINGS, SURE)), walk(0, 50, 0)
    shown = [step(tracker, i / RATE, [thing(0)] if i < 10 or i >= 60 else []) for i in range(70)]
    ends = [index for index, tracks in enumerate(shown) if len(tracks.ended)]
    assert len(ends) == 1
    assert shown[ends[0]].ended.tolist() == [1]
    assert 9 / RATE + 1.5 < ends[0] / RATE <= 9 / RATE + 1.6
    assert shown[-1].ids.tolist() == [2]


def test_a_flash_seen_twice_is_never_shown_nor_reported_as_ended() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    shown = [step(tracker, i / RATE, [(10, 10, 50, 110)] if i < 2 else []) for i in range(100)]
    assert not any(len(tracks.ids) or len(tracks.ended) for tracks in shown)


def test_unsure_detections_carry_a_track_on_but_start_none() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    seen, unseen = (10, 10, 50, 110), (300, 10, 340, 110)
    for index in range(30):
        tracks = step(tracker, index / RATE, [seen, unseen], [0.9 if index < 5 else 0.3, 0.3])
    assert tracks.ids.tolist() == [1]
    assert tracks.rows.tolist() == [0]
    assert tracks.scores.tolist() == pytest.approx([0.3])


def test_detections_below_the_unsure_share_are_not_used() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(30):
        tracks = step(tracker, index / RATE, [(10, 10, 50, 110)], [0.9 if index < 5 else 0.1])
    assert not len(tracks.ids)


def test_sure_detections_go_first_to_the_tracks() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(5):
        step(tracker, index / RATE, [(100, 10, 140, 110)])
    tracks = step(tracker, 0.2, [(100, 10, 140, 110), (106, 10, 146, 110)], [0.3, 0.9])
    assert tracks.rows.tolist() == [1]


def test_a_detection_belongs_to_one_track_even_where_an_unconfirmed_one_fits_too() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(5):
        step(tracker, index / RATE, [(100, 10, 140, 110)])
    step(tracker, 0.2, [(100, 10, 140, 110), (112, 10, 152, 110)])
    shown = [step(tracker, 0.24 + index / RATE, [(104, 10, 144, 110)]) for index in range(4)]
    assert [tracks.ids.tolist() for tracks in shown] == [[1]] * 4


def test_a_flickering_label_stays_one_track() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    shown = [step(tracker, i / RATE, [(10, 10, 50, 110)], labels=[i % 2]) for i in range(20)]
    assert {int(id_) for tracks in shown for id_ in tracks.ids} == {1}
    assert [tracks.labels.tolist() for tracks in shown[3:5]] == [[1], [0]]


def test_the_same_label_decides_between_two_equally_near_detections() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(5):
        step(tracker, index / RATE, [(100, 10, 140, 110)], labels=[DOG])
    tracks = step(tracker, 0.2, [(94, 10, 134, 110), (106, 10, 146, 110)], labels=[PERSON, DOG])
    assert tracks.rows[tracks.ids == 1].tolist() == [1]


def test_one_thing_detected_under_two_labels_is_one_track() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(10):
        tracks = step(tracker, index / RATE, [(10, 10, 50, 110), (11, 10, 50, 110)], [0.8, 0.9], [PERSON, DOG])
    assert tracks.ids.tolist() == [1]


def test_a_good_pair_is_not_broken_up_to_make_two_poor_ones() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    one, two = (100, 10, 140, 110), (128, 10, 168, 110)
    for index in range(5):
        step(tracker, index / RATE, [one, two])
    tracks = step(tracker, 0.2, [two, (152, 10, 192, 110)])
    assert dict(zip(tracks.ids.tolist(), tracks.rows.tolist(), strict=True)) == {2: 0}


def test_who_comes_in_where_another_went_out_is_somebody_else() -> None:
    tracker, size = Tracker(TrackingRules(SETTINGS, SURE)), (640, 360)

    def seen(left: float) -> Tracks:
        box = np.array([(left, 100, left + 60, 250)], np.float32).clip(0, [640, 360, 640, 360])
        whole = box[box[:, 2] - box[:, 0] >= 5]
        found = TrackerInput(whole, np.full(len(whole), 0.9, np.float32), np.zeros(len(whole), np.int32))
        return tracker.update(time_s, found, size=size)[0]

    shown: list[list[int]] = []
    for index in range(90):
        time_s = index / RATE
        shown.append(seen(580 + 3 * index if index < 40 else 660 - 3 * (index - 40)).ids.tolist())
    assert shown[10] == [1]
    assert shown[-1] == [2]


@pytest.mark.parametrize("gap_s", [0.04, 0.2, 0.5, 2.0])
def test_the_id_is_kept_at_any_frame_rate(gap_s: float) -> None:
    things = walk(0, 50, 10 / gap_s), walk(400, 50, -10 / gap_s)  # a quarter of the width each frame
    ids = owners(Tracker(TrackingRules(SETTINGS, SURE)), [index * gap_s for index in range(20)], *things)
    assert all(row == [1, 2] for row in ids[3:])


def test_dropped_frames_do_not_lose_a_fast_thing() -> None:
    kept = [i for i in range(200) if i < 20 or i % 7 in (0, 1, 4)]
    ids = owners(Tracker(TrackingRules(SETTINGS, SURE)), [i / RATE for i in kept], walk(0, 50, 150))
    assert all(row == [1] for row in ids[3:])


def test_a_jump_in_time_ends_what_was_there() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(20):
        step(tracker, index / RATE, [(10, 10, 50, 110)])
    tracks = step(tracker, 60.0, [(10, 10, 50, 110)])
    assert tracks.ended.tolist() == [1]
    assert not len(tracks.ids)


def test_a_step_back_in_time_loses_nothing() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for time_s in (100.0, 100.04, 100.08, 3.0, 3.04, 3.08):
        tracks = step(tracker, time_s, [(10, 10, 50, 110)])
    assert tracks.ids.tolist() == [1]


def test_frames_with_the_same_time_are_allowed() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for _ in range(4):
        tracks = step(tracker, 1.0, [(10, 10, 50, 110)])
    assert tracks.ids.tolist() == [1]


def test_no_detections_at_all() -> None:
    tracks = step(Tracker(TrackingRules(SETTINGS, SURE)), 0.0, [])
    assert tracks.boxes.shape == (0, 4)
    assert [tracks.ids.dtype, tracks.boxes.dtype, tracks.labels.dtype] == [np.int64, np.float32, np.int32]


def test_a_picture_without_anything_sure_is_told_as_one_with_a_track_not_shown_yet() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    unsure, tentative = (
        step(tracker, index / RATE, [(10, 10, 50, 110)], [score]) for index, score in enumerate((0.49, 0.9))
    )
    for name in (each.name for each in fields(Tracks)):
        one, other = getattr(unsure, name), getattr(tentative, name)
        assert (one.shape, one.dtype) == (other.shape, other.dtype), name


@pytest.mark.parametrize("score", [float("nan"), 0.1])
def test_a_sure_detection_starts_a_track_whatever_stands_beside_it(score: float) -> None:
    tracker = Tracker(TrackingRules(TrackingSettings(confirm_frames=1), SURE))
    assert step(tracker, 0.0, [(10, 10, 50, 110), (100, 10, 140, 110)], [score, 0.9]).rows.tolist() == [1]


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((float("nan"), 10, 50, 110), id="not a number"),
        pytest.param((10, 10, float("inf"), 110), id="without end"),
        pytest.param((50, 10, 50, 110), id="no width"),
        pytest.param((50, 110, 10, 10), id="corners exchanged"),
    ],
)
def test_a_box_that_is_none_is_passed_over(box: Box) -> None:
    tracker = Tracker(TrackingRules(TrackingSettings(confirm_frames=1), SURE))
    for index in range(5):
        tracks = step(tracker, index / RATE, [box, (100, 10, 140, 110)])
    assert tracks.rows.tolist() == [1]
    assert np.isfinite(tracks.boxes).all()


corner = st.floats(-50, 700, width=32)
frames_of_boxes = st.lists(
    st.tuples(
        st.sampled_from([-1.0, 0.0, 0.01, 0.04, 0.5, 3.0]),
        st.lists(st.tuples(corner, corner, corner, corner, st.floats(0, 1)), max_size=6),
    ),
    max_size=15,
)


@given(frames_of_boxes)
def test_whatever_comes_ids_are_unique_and_boxes_finite(frames: list[tuple[float, list[tuple[float, ...]]]]) -> None:
    tracker, time_s = Tracker(TrackingRules(TrackingSettings(confirm_frames=2), SURE)), 0.0
    ended: set[int] = set()
    for gap_s, rows in frames:
        time_s += gap_s
        tracks = step(tracker, time_s, [row[:4] for row in rows], [row[4] for row in rows])
        ids = tracks.ids.tolist()
        ended |= set(tracks.ended.tolist())
        assert len(set(ids)) == len(ids)
        assert len(set(tracks.rows.tolist())) == len(ids)
        assert not ended & set(ids)
        assert np.isfinite(tracks.boxes).all()
        assert (tracks.boxes[:, 2:] > tracks.boxes[:, :2]).all()


@pytest.mark.parametrize("seed", range(4))
def test_ten_thousand_random_steps_keep_every_promise(seed: int) -> None:
    """Time that stands still, leaps and steps back; crowds and nothing; frames carried; boxes that are none."""
    rng, tracker = np.random.default_rng(seed), Trackers(TrackingSettings(confirm_frames=1), THRESHOLDS, PERSON)
    time_s, shown, ended = (
        0.0,
        {"objects": set[int](), "faces": set[int]()},
        {"objects": set[int](), "faces": set[int]()},
    )
    unchanged, dark = rng.uniform(0, 300, (5, 2)), np.zeros((360, 640, 3), np.uint8)
    for _ in range(2500):
        time_s += rng.choice([0.04, 0.04, 0.04, 0.5, 0.0, 5.0, -1.0])
        things, faces = _random_boxes(rng, unchanged), _random_boxes(rng, unchanged)
        frame = make_observed(time_s, things, faces, score=rng.uniform(0.3, 1.0), pixels=dark)
        item = Skipped(frame.frame, frame.timestamps) if rng.random() < 0.2 else frame
        (tracked,) = tracker.update([item])
        for kind, tracks in (("objects", tracked.objects), ("faces", tracked.faces)):
            ids = tracks.ids.tolist()
            assert len(set(ids)) == len(ids)
            assert ended[kind].isdisjoint(ids)
            for id_ in tracks.ended.tolist():
                assert id_ in shown[kind] and id_ not in ended[kind]
                ended[kind].add(id_)
            shown[kind].update(ids)
            assert all(0 <= x0 < x1 <= 640 and 0 <= y0 < y1 <= 360 for x0, y0, x1, y1 in tracks.boxes.tolist())
        assert set(tracked.face_objects.tolist()) <= {0, *tracked.objects.ids.tolist()}
    (last,) = tracker.update([make_observed(time_s + 100.0)])
    assert shown["objects"] == ended["objects"] | set(last.objects.ended.tolist())
    assert shown["faces"] == ended["faces"] | set(last.faces.ended.tolist())
    assert len(shown["objects"]) > 100 and len(shown["faces"]) > 100


def _random_boxes(rng: np.random.Generator, unchanged: np.ndarray) -> list[Box]:
    corner = np.concatenate([unchanged[rng.random(len(unchanged)) < 0.7], rng.uniform(0, 300, (rng.integers(3), 2))])
    boxes = np.concatenate([corner, corner + rng.uniform(20, 60, corner.shape)], axis=1)
    boxes[rng.random(boxes.shape) < 0.005] = rng.choice([0.0, 600.0])
    return [tuple(box) for box in boxes.clip(0, [640, 360, 640, 360]).tolist()]


def test_carried_frames_show_the_last_tracks_again_and_do_not_age_them() -> None:
    trackers, box = Trackers(SETTINGS, THRESHOLDS, PERSON), (100, 100, 140, 200)
    for index in range(5):
        (seen,) = trackers.update([make_observed(index / RATE, [box], [(110, 100, 125, 120)])])
    for index in range(5, 500):
        frame = make_observed(index / RATE).frame
        (skipped,) = trackers.update([Skipped(frame, seen.timestamps)])
        assert skipped.frame is frame and skipped.carried == "unchanged"
        assert skipped.objects.ids.tolist() == skipped.faces.ids.tolist() == [1]
        np.testing.assert_array_equal(skipped.objects.boxes, seen.objects.boxes)
    (again,) = trackers.update([make_observed(500 / RATE, [box])])
    assert again.objects.ids.tolist() == [1]
    assert not len(again.objects.ended)


def test_what_was_missing_before_a_still_time_ends_by_it() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    for index in range(10):
        step(tracker, index / RATE, [(10, 10, 50, 110)] if index < 9 else [])
    tracker.carry(10.0)
    assert step(tracker, 10.04, []).ended.tolist() == [1]


def test_a_stream_that_was_never_inferred_has_nothing_to_carry() -> None:
    seen = make_observed(0.0, [(10, 10, 50, 110)])
    (tracked,) = Trackers(SETTINGS, THRESHOLDS, PERSON).update([Skipped(seen.frame, seen.timestamps)])
    assert not len(tracked.objects.ids) and not len(tracked.detections.objects.boxes)


def test_the_solver_is_loaded_before_the_first_frame() -> None:
    solver.cache_clear()
    Trackers(SETTINGS, THRESHOLDS, PERSON)
    assert solver.cache_info().currsize == 1


def test_ids_begin_where_they_are_told_to() -> None:
    trackers = Trackers(TrackingSettings(confirm_frames=1), THRESHOLDS, PERSON, first_id=1001)
    (tracked,) = trackers.update([make_observed(0.0, [(10, 10, 50, 110)], [(20, 10, 40, 40)])])
    assert [tracked.objects.ids.tolist(), tracked.faces.ids.tolist()] == [[1001], [1001]]


def test_weak_things_are_shown_later_than_sure_ones() -> None:
    tracker, shown = Tracker(TrackingRules(TrackingSettings(confirm_frames=2), SURE)), []
    for index in range(20):
        shown.append(step(tracker, index / RATE, [(10, 10, 50, 110), (200, 10, 240, 110)], [0.95, 0.52]))
    first = [next(i for i, tracks in enumerate(shown) if row in tracks.rows.tolist()) for row in range(2)]
    assert first == [1, 11]


def test_a_thing_that_flickers_weakly_is_never_shown() -> None:
    tracker = Tracker(TrackingRules(TrackingSettings(confirm_frames=2), SURE))
    shown = [step(tracker, i / 10, [(10, 10, 50, 110)] if i % 2 else [], [0.55] if i % 2 else []) for i in range(100)]
    assert not any(len(tracks.ids) for tracks in shown)


def looking(boxes: Sequence[Box], appearance: Sequence[Sequence[float]]) -> TrackerInput:
    count = len(boxes)
    return TrackerInput(
        boxes_array(boxes), np.full(count, 0.9, np.float32), np.zeros(count, np.int32), np.array(appearance, np.float32)
    )


def test_looks_decide_between_two_equally_near_detections() -> None:
    tracker, size = Tracker(TrackingRules(SETTINGS, SURE)), (640, 360)
    red, blue = (1.0, 0.0), (0.0, 1.0)
    for index in range(5):
        tracker.update(index / RATE, looking([(100, 10, 140, 110)], [red]), size=size)
    near = [(94, 10, 134, 110), (106, 10, 146, 110)]
    (tracks,) = tracker.update(0.2, looking(near, [blue, red]), size=size)
    assert tracks.rows[tracks.ids == 1].tolist() == [1]


def test_a_sudden_turn_of_the_camera_keeps_the_ids_when_it_is_told() -> None:
    tracker, size = Tracker(TrackingRules(SETTINGS, SURE)), (640, 360)
    boxes = [(100 + 60 * i, 100, 130 + 60 * i, 180) for i in range(4)]
    for index in range(5):
        step(tracker, index / RATE, boxes)
    turned = [(left + 60, top, right + 60, bottom) for left, top, right, bottom in boxes]
    seen = TrackerInput(boxes_array(turned), np.full(4, 0.9, np.float32), np.zeros(4, np.int32))
    (tracks,) = tracker.update(0.2, seen, size=size, motion=np.array([[1.0, 0.0, 60.0], [0.0, 1.0, 0.0]]))
    assert dict(zip(tracks.rows.tolist(), tracks.ids.tolist(), strict=True)) == {0: 1, 1: 2, 2: 3, 3: 4}


def test_a_sudden_turn_of_the_camera_is_told_by_the_tracks_themselves() -> None:
    tracker = Tracker(TrackingRules(SETTINGS, SURE))
    boxes = [(100 + 130 * i, 100 + 40 * i, 150 + 130 * i, 220 + 40 * i) for i in range(6)]
    for index in range(30):
        sway = 12 * (-1) ** (index // 3)  # pixels to either side, every 0.12 s
        shown = [(left + sway, top, right + sway, bottom) for left, top, right, bottom in boxes]
        tracks = step(tracker, index / RATE, shown)
        if index > 3:
            np.testing.assert_allclose(tracks.boxes, shown, atol=1.5)
    assert dict(zip(tracks.rows.tolist(), tracks.ids.tolist(), strict=True)) == {i: i + 1 for i in range(6)}


def test_camera_motion_is_found_in_the_pictures_themselves() -> None:
    blocks = np.random.default_rng(3).integers(0, 255, (15, 34), np.uint8)
    wall = np.repeat(np.repeat(blocks, 24, 0), 24, 1)
    trackers = Trackers(TrackingSettings(camera_motion=True, confirm_frames=1), THRESHOLDS, PERSON)
    for index, shift in enumerate([0, 0, 0, 40]):
        pixels = np.repeat(wall[:, 100 - shift : 740 - shift, None], 3, 2)
        seen = make_observed(index / RATE, [(200 + shift, 100, 230 + shift, 180)], pixels=pixels)
        (tracked,) = trackers.update([seen])
    assert tracked.objects.ids.tolist() == [1]


def test_streams_have_ids_of_their_own_and_boxes_stay_in_the_picture() -> None:
    box = (600, 100, 640, 200)
    frames = [
        make_observed(i / 10, [(box[0] - 60 + 20 * min(i, 3), 100, 640, 200)], stream=s) for i in range(8) for s in "ab"
    ]
    tracked = one_by_one(track, frames, Trackers(SETTINGS, THRESHOLDS, PERSON))
    assert [item.objects.ids.tolist() for item in tracked[-2:]] == [[1], [1]]
    assert all((item.objects.boxes[:, 2] <= 640).all() for item in tracked)
    assert [item.frame for item in tracked] == [item.frame for item in frames]


def test_a_stage_that_begins_anew_goes_on_with_its_tracks() -> None:
    box = (100, 100, 140, 200)
    trackers = Trackers(SETTINGS, THRESHOLDS, PERSON)
    one_by_one(track, [make_observed(i / 10, [box]) for i in range(5)], trackers)
    later = one_by_one(track, [make_observed(0.5, [box]), make_observed(5.0, [])], trackers)
    assert [(item.objects.ids.tolist(), item.objects.ended.tolist()) for item in later] == [([1], []), ([], [1])]


def test_each_label_begins_tracks_from_its_own_score_on() -> None:
    tracker = Tracker(TrackingRules(TrackingSettings(confirm_frames=1), (0.8, 0.3), 0.5))
    boxes = np.array([(10, 10, 50, 110), (200, 10, 240, 110)], np.float32)
    nothing = TrackerInput(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int32))
    for frame in range(6):
        seen = TrackerInput(boxes, np.full(2, 0.6, np.float32), np.array([0, 1], np.int32))
        objects, faces = tracker.update(frame * 0.04, seen, nothing, size=(320, 240))
    assert objects.labels.tolist() == [1]
    assert not len(faces.ids)
