"""Frames that are not inferred, in every stage: what was seen last is shown again, and is no evidence."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from engines.boxes import letterbox
from engines.spec import Thresholds
from pipeline.frames.picture import Picture
from pipeline.frames.types import Batch, Identified, Inferred, Observed, Prepared, Result, Skipped, Timestamps, Tracked
from pipeline.gallery.gallery import Gallery
from pipeline.identity.face_entry import DirectFaces
from pipeline.identity.stage import Identifier, identify
from pipeline.inference.preprocess import preprocess
from pipeline.inference.stage import collect, detect, start
from pipeline.settings.schema import IdentitySettings, SmoothingSettings, TrackingSettings
from pipeline.smoothing.stage import Smoothers, smooth
from pipeline.tracking.stage import Trackers, track
from tests.pipeline.made_frames import make_frame, names
from tests.pipeline.made_runs import Run, check_books, make_config, write_model
from tests.pipeline.made_tracks import make_observed, make_tracked, one_by_one

LATER = Timestamps(11, 12, 13, 14)
BOX = (100.0, 50.0, 200.0, 250.0)


def test_only_frames_to_infer_are_scaled() -> None:
    pictures = [Picture.from_rgb(np.full((20, 40, 3), level, np.uint8)) for level in (10, 20, 30)]
    frames = tuple(make_frame("a", seq, picture) for seq, picture in enumerate(pictures))
    (prepared,) = preprocess([Batch(frames, 1, frozenset({1}))], (20, 40))
    assert prepared.frames == frames
    assert prepared.pixels[:, 10, 20, 0].tolist() == [10, 30]
    assert len(prepared.letterboxes) == 2


def test_a_batch_in_which_nothing_is_to_be_inferred_does_not_trouble_the_engine() -> None:
    (prepared,) = preprocess([Batch((make_frame("a", 0),), 1, frozenset({0}))], (20, 40))
    (inferred,) = collect(start([prepared], engine=None))  # type: ignore[arg-type]
    assert inferred.outputs == {}
    assert inferred.ran(depth=2).size == 0
    ((skipped,),) = detect([inferred], Thresholds)
    assert isinstance(skipped, Skipped)
    assert skipped.frame == prepared.frames[0]


def test_each_frame_that_was_inferred_gets_its_own_row_and_the_order_is_kept() -> None:
    frames = tuple(make_frame("a", seq) for seq in range(4))
    boxes = (letterbox((640, 320), (64, 32)),) * 2
    outputs: dict[str, npt.NDArray[np.generic]] = {
        "object_boxes": np.array([[[0, 0, 10, 10]], [[20, 0, 30, 10]]], np.float32),
        "object_scores": np.full((2, 1), 0.9, np.float32),
        "object_labels": np.zeros((2, 1), np.int32),
    }
    prepared = Prepared(Batch(frames, 1, frozenset({0, 2})), np.zeros((2, 32, 64, 3), np.uint8), boxes, 2)
    (items,) = detect([Inferred(prepared, outputs, 3, 4)], Thresholds)
    assert names([item.frame for item in items]) == ["a0", "a1", "a2", "a3"]
    assert [type(item) for item in items] == [Skipped, Observed, Skipped, Observed]
    lefts = [item.detections.objects.boxes[0, 0] for item in items if isinstance(item, Observed)]
    assert lefts == [0.0, 200.0]
    assert {item.timestamps for item in items} == {Timestamps(1, 2, 3, 4)}


def tracked(items: Sequence[Observed | Skipped]) -> list[Tracked]:
    return one_by_one(track, items, Trackers(TrackingSettings(confirm_frames=1), Thresholds(), person=0))


def carried_at(time_s: float) -> Skipped:
    return Skipped(replace(make_observed(time_s).frame, unchanged=True), LATER)


def test_tracks_are_shown_again_with_their_scores_and_the_frames_own_stamps() -> None:
    seen, again = tracked([make_observed(0.0, [BOX], [(120.0, 60.0, 150.0, 90.0)]), carried_at(0.04)])
    assert again.skipped
    assert not seen.skipped
    assert again.frame.time_s == 0.04
    assert again.timestamps == LATER
    for before, now in ((seen.objects, again.objects), (seen.faces, again.faces)):
        assert len(now.ids) == 1
        np.testing.assert_array_equal(now.ids, before.ids)
        np.testing.assert_array_equal(now.boxes, before.boxes)
        np.testing.assert_array_equal(now.scores, before.scores)


def test_a_frame_to_carry_on_from_nothing_shows_nothing() -> None:
    (shown,) = tracked([carried_at(0.0)])
    assert shown.skipped
    assert len(shown.objects.ids) == len(shown.faces.ids) == len(shown.detections.scene) == 0


def identified(item: Tracked) -> Identified:
    return Identified.with_names(item, (None,) * len(item.faces.ids))


def as_carried(item: Tracked) -> Tracked:
    return replace(item, carried="unchanged", timestamps=LATER)


def smoothed(*items: Tracked) -> list[Result]:
    return one_by_one(smooth, map(identified, items), Smoothers(SmoothingSettings(), 2, 2))


def test_a_label_that_flickered_in_the_last_frame_is_not_borne_out_by_showing_it_again() -> None:
    steady = [make_tracked(0.04 * number, {1: BOX}, labels=[0], scene=(0.9, 0.1)) for number in range(10)]
    flicker = make_tracked(0.4, {1: BOX}, labels=[1], scene=(0.1, 0.9))
    again = [as_carried(make_tracked(0.44 + 0.04 * n, {1: BOX}, labels=[1], scene=(0.1, 0.9))) for n in range(25)]
    results = smoothed(*steady, flicker, *again)
    before, last = results[10], results[-1]
    assert last.labels.tolist() == before.labels.tolist() == [0]
    assert last.label_scores.tolist() == before.label_scores.tolist()
    assert last.scene.tolist() == before.scene.tolist()
    assert last.scene_label == before.scene_label
    assert last.frame.time_s == pytest.approx(1.4)
    assert last.finished_ns >= before.finished_ns


def test_carried_tracks_that_are_not_those_of_the_last_result_are_smoothed_as_any() -> None:
    first, other = smoothed(make_tracked(0.0, {1: BOX}), as_carried(make_tracked(0.04, {1: BOX, 2: BOX})))
    assert len(first.labels) == 1
    assert len(other.labels) == 2


class NobodyLooks:
    """An engine that must not be run."""

    def infer(self, batch: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.generic]]:
        raise AssertionError("a face was embedded")


def test_a_face_that_is_shown_again_is_not_embedded(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "people.sqlite", "0" * 16)
    identifier = Identifier(DirectFaces(NobodyLooks()), gallery, IdentitySettings(), 0.5)  # type: ignore[arg-type]
    face = (100.0, 50.0, 200.0, 150.0)
    pixels = np.zeros((360, 640, 3), np.uint8)
    (shown,) = one_by_one(identify, [as_carried(make_tracked(0.0, faces={1: face}, pixels=pixels))], identifier)
    assert shown.identities == (None,)
    with pytest.raises(AssertionError, match="embedded"):
        one_by_one(identify, [make_tracked(0.0, faces={1: face}, pixels=pixels)], identifier)


def test_a_run_at_the_adaptive_rate_tells_every_frame_and_infers_those_with_motion(
    make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    def dark_then_bright(index: int) -> np.ndarray:
        return np.full((120, 160, 3), 220 if index >= 75 else 40, np.uint8)

    clip = make_clip(tmp_path / "clip.mp4", 100, (160, 120), 25, dark_then_bright)
    model = write_model(tmp_path / "model")
    run = Run(make_config(model, {"door": clip}, inference={"fps": "auto", "min_rate_hz": 0.5}))
    summary = run.end()
    check_books(run, summary)
    frames = run.frames("door")
    assert [frame.seq for frame in frames] == list(range(100))
    reported = summary.to_json()
    # A second at the beginning, half a second after the light went on, and every two seconds in between.
    assert reported["frames"]["inferred"] + reported["frames"]["carried"] == 100
    assert 36 <= reported["frames"]["inferred"] <= 42
    assert sum(size * count for size, count in reported["batches"].items()) == reported["frames"]["inferred"]
    assert frames[74].objects == frames[40].objects
    assert frames[74].faces == frames[40].faces
    assert [each.track for each in frames[99].objects] == [2], "another person since it is bright"
