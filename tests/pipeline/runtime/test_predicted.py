"""Frames that the inference rate leaves out: tracks are shown where they move to, and marked."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from engines.spec import ModelSpec, NetworkSettings, Thresholds
from pipeline.batching.batcher import Batcher
from pipeline.events.log import EventLog
from pipeline.frames.types import Observed, Skipped, Timestamps, Tracked
from pipeline.identity.stage import identify
from pipeline.settings.schema import SmoothingSettings, TrackingSettings
from pipeline.smoothing.stage import Smoothers, smooth
from pipeline.tracking.stage import Trackers, track
from pipeline.wire.build import to_message
from pipeline.wire.messages import FrameMessage, decode, encode
from tests.pipeline.made_clock import Tick
from tests.pipeline.made_results import OBJECTS, SCENES, make_result
from tests.pipeline.made_runs import Run, check_books, make_config, write_model
from tests.pipeline.made_tracks import make_observed, one_by_one

STEP_S = 0.04
LATER = Timestamps(11, 12, 13, 14)


def walking(number: int) -> Observed:
    """A person and its face, 2 pixels a frame to the right."""
    x = 100.0 + 2.0 * number
    return make_observed(STEP_S * number, [(x, 50.0, x + 100.0, 250.0)], [(x + 20.0, 60.0, x + 50.0, 90.0)])


def left_out(number: int) -> Skipped:
    return Skipped(replace(walking(number).frame, between=True), LATER)


def tracked(every: int, count: int, *, show: bool = True) -> list[Tracked]:
    trackers = Trackers(TrackingSettings(confirm_frames=1), Thresholds(), person=0)
    items = (left_out(n) if n % every else walking(n) for n in range(count))
    return one_by_one(track, (item for item in items if show or isinstance(item, Observed)), trackers)


def test_a_track_is_shown_where_it_should_be_by_then() -> None:
    items = tracked(5, 30)
    assert [item.carried for item in items[:6]] == [None, *["predicted"] * 4, None]
    for number, item in enumerate(items[20:], 20):
        assert item.frame.time_s == pytest.approx(STEP_S * number)
        x = 100.0 + 2.0 * number
        np.testing.assert_allclose(item.objects.boxes, [(x, 50.0, x + 100.0, 250.0)], atol=1.5)
        assert item.objects.ids.tolist() == items[0].objects.ids.tolist()
        assert not len(item.objects.ended)


def test_the_picture_of_a_frame_that_was_left_out_is_not_looked_at() -> None:
    def unseen(number: int) -> Skipped:
        frame = left_out(number).frame
        return Skipped(replace(frame, picture=replace(frame.picture, planes=())), LATER)

    settings = TrackingSettings(confirm_frames=1, camera_motion=True)
    items = [unseen(0), walking(1), *(unseen(n) for n in range(2, 6)), walking(6)]
    shown = track(([item] for item in items), Trackers(settings, Thresholds(), person=0))
    batches = list(smooth(identify(shown, None), Smoothers(SmoothingSettings(), 2, 2, light=True)))
    results = [result for batch in batches for result in batch]
    light = results[1].light
    assert light is not None
    assert [result.light for result in results] == [None, *[light] * 6]


def test_a_faces_landmarks_move_along_and_those_that_were_seen_stay_what_they_were() -> None:
    items = tracked(5, 30)
    seen, later = items[25], items[29]
    offsets = [item.detections.faces.landmarks[0] - item.faces.boxes[0, :2] for item in (seen, later)]
    np.testing.assert_allclose(offsets[0], offsets[1], atol=0.5)
    assert later.detections.faces.landmarks[0, 0, 0] > seen.detections.faces.landmarks[0, 0, 0] + 4.0
    assert later.face_objects.tolist() == seen.face_objects.tolist()


def test_a_predicted_box_stays_in_the_picture() -> None:
    trackers = Trackers(TrackingSettings(confirm_frames=1), Thresholds(), person=0)
    items: list[Observed | Skipped] = []
    for number in range(12):
        x = 400.0 + 18.0 * number  # to the right edge of 640 pixels
        items.append(make_observed(STEP_S * number, [(x, 50.0, x + 40.0, 250.0)]))
    items += [Skipped(replace(make_observed(STEP_S * n).frame, between=True), LATER) for n in range(12, 40)]
    for item in one_by_one(track, items, trackers):
        if len(item.objects.boxes):
            assert item.objects.boxes.min() >= 0.0
            assert item.objects.boxes[:, 2].max() <= item.frame.picture.width
            assert (item.objects.boxes[:, :2] < item.objects.boxes[:, 2:]).all()


def test_another_scene_ends_what_was_followed_though_its_frame_is_left_out() -> None:
    trackers = Trackers(TrackingSettings(confirm_frames=1), Thresholds(), person=0)
    frame = replace(walking(1).frame, between=True, cut_seq=1, seq=1)
    first, cut = one_by_one(track, [walking(0), Skipped(frame, LATER)], trackers)
    assert cut.cut
    assert cut.objects.ended.tolist() == first.objects.ids.tolist()


def test_what_is_predicted_begins_moves_and_ends_nothing() -> None:
    log = EventLog(("person",), ())
    black, box = np.zeros((360, 640, 3), np.uint8), (100.0, 50.0, 200.0, 250.0)
    first = make_result(black, [box])
    assert [event.event for event in log.update(first)] == ["new"]
    again = replace(make_result(black, [box, (300.0, 50.0, 400.0, 250.0)], seq=1), carried="predicted")
    assert log.update(again) == []


def test_a_message_says_what_was_carried_and_one_of_an_inferred_frame_does_not_mention_it() -> None:
    spec = ModelSpec(1, "made", None, None, OBJECTS, SCENES, NetworkSettings())  # type: ignore[arg-type]
    result = make_result(np.zeros((36, 64, 3), np.uint8))
    assert b"carried" not in encode(to_message(result, spec, {}), "json")
    body = encode(to_message(replace(result, carried="predicted"), spec, {}), "msgpack")
    told = decode(body)
    assert isinstance(told, FrameMessage)
    assert told.carried == "predicted"


def test_frames_left_out_go_along_and_the_next_is_awaited_at_the_inference_rate() -> None:
    batcher = Batcher[Tick]({"a": "freshest"}, 8, 50_000_000)
    for number in range(20):
        batcher.offer(Tick("a", number, 40_000_000 * number, between=number % 5 > 0), 40_000_000 * number)
        taken = batcher.take(40_000_000 * number)
        assert len(taken.frames) == 1
        assert bool(taken.skipped) is (number % 5 > 0)
    assert batcher._queues["a"].arrivals.due_ns == 40_000_000 * 20


def test_a_stream_inferred_at_a_lower_rate_still_has_a_message_for_each_frame(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    def flickering(index: int) -> np.ndarray:
        return np.full((120, 160, 3), 150 + 10 * (index % 5), np.uint8)

    clip = make_clip(tmp_path / "clip.mp4", 50, (160, 120), 25, flickering)
    run = Run(make_config(write_model(tmp_path / "model"), {"door": clip}, inference={"fps": 5.0}))
    summary = run.end()
    check_books(run, summary)
    frames = run.frames("door")
    assert [frame.seq for frame in frames] == list(range(50))
    told = ["I" if frame.carried is msgspec.UNSET else "p" for frame in frames]
    assert "".join(told) == "Ipppp" * 10
    assert summary.to_json()["frames"] == {"inferred": 10, "carried": 40}


def test_what_moves_by_more_than_its_size_between_inferred_frames_is_still_one_track() -> None:
    def driving(number: int) -> Observed:
        x = 20.0 + 10.0 * number  # 50 pixels, less than half of which overlap, from one inferred frame to the next
        return make_observed(STEP_S * number, [(x, 100.0, x + 55.0, 140.0)])

    def followed(left_out: bool) -> set[int]:
        trackers = Trackers(TrackingSettings(confirm_frames=1), Thresholds(), person=0)
        items: list[Observed | Skipped] = []
        for number in range(40):
            seen = driving(number)
            if number % 5 == 0:
                items.append(seen)
            elif left_out:
                items.append(Skipped(replace(seen.frame, between=True), LATER))
        return {int(track_id) for item in one_by_one(track, items, trackers) for track_id in item.objects.ids}

    assert followed(left_out=True) == {1}
    assert len(followed(left_out=False)) > 1, "a source that is as slow says nothing of what lies between"
