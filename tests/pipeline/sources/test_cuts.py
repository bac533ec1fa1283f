"""A cut is another scene; a flash, a lamp, the focus, and a camera or people that move are not."""

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.luma import luma_points
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Identified, Skipped, Timestamps, Tracked
from pipeline.settings.schema import SmoothingSettings, TrackingSettings
from pipeline.smoothing.stage import Smoothers
from pipeline.sources.cuts import KEPT_S, Change, CutDetector, mark_cuts
from pipeline.tracking.stage import Trackers
from tests.pipeline.made_frames import make_frame
from tests.pipeline.made_scenes import HEIGHT, WIDTH, Luma, rgb, seen, wide
from tests.pipeline.made_tracks import Box, make_observed
from tests.pipeline.tracking.test_stage import THRESHOLDS

FPS = 25
SEEDS = range(20)
SEED = st.integers(0, 10_000)
BLACK, GREY, WHITE = (np.full((HEIGHT, WIDTH), tone, np.float32) for tone in (16, 128, 235))
LEFT: Box = (100, 50, 200, 350)
RIGHT: Box = (400, 50, 500, 350)


def points(luma: Luma) -> np.ndarray:
    plane = np.clip(np.rint(luma), 0, 255).astype(np.uint8)
    return luma_points(Picture((plane, plane, plane), WIDTH, HEIGHT))


def changes(pictures: Iterable[Luma], fps: float = FPS) -> list[Change]:
    detector = CutDetector()
    return [detector.look(points(picture), number / fps) for number, picture in enumerate(pictures)]


def cut_after(pictures: list[Luma]) -> list[int]:
    return [number for number, change in enumerate(changes(pictures)) if change != "none"]


def lamp(seed: int, floor: float, gain: float) -> Luma:
    """What light falls where: near a lamp ``floor + gain``, far from it ``floor``."""
    made = np.random.default_rng(seed)
    across, down = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    left, top = made.uniform(0, WIDTH), made.uniform(0, HEIGHT)
    near = np.exp(-((across - left) ** 2 + (down - top) ** 2) / (2 * 110.0**2))
    return np.asarray(floor + gain * near, np.float32)


def noisy(luma: Luma, sigma: float, seed: int = 0) -> Luma:
    return np.asarray(luma + np.random.default_rng(seed).normal(0.0, sigma, luma.shape), np.float32)


# Cuts.


def test_most_cuts_are_told_in_the_very_frame() -> None:
    told = [changes([seen(wide(seed))] * 3 + [seen(wide(seed + 1000))] * 3) for seed in SEEDS]
    assert all(each[:3] == ["none"] * 3 and each[4:] == ["none"] * 2 for each in told)
    at_once = [each[3] for each in told]
    assert at_once.count("cut") >= 0.85 * len(told)
    assert at_once.count("none") <= 0.1 * len(told)


@pytest.mark.parametrize("between", [BLACK, GREY, WHITE], ids=["black", "grey", "white"])
def test_a_cut_over_a_flat_picture_is_a_cut_and_the_same_scene_again_is_none(between: Luma) -> None:
    one, other = seen(wide(1)), seen(wide(1001))
    assert cut_after([one, one, between, between, other, other]) == [4]
    assert cut_after([one, one, between, between, one, one]) == []


def test_a_scene_is_not_remembered_for_ever() -> None:
    one, other = seen(wide(1)), seen(wide(1001))
    assert cut_after([one, *[BLACK] * round(2 * KEPT_S * FPS), other]) == []


def test_the_first_picture_is_no_cut_whatever_it_shows() -> None:
    for picture in (BLACK, WHITE, seen(wide(1))):
        assert changes([picture]) == ["none"]


# What is no cut.


@given(seed=SEED, gain=st.floats(0.3, 6.0), offset=st.floats(-30.0, 90.0))
def test_brightness_and_contrast_are_no_cut(seed: int, gain: float, offset: float) -> None:
    scene = seen(wide(seed))
    assert cut_after([scene, gain * scene + offset, scene]) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_flash_is_no_cut(seed: int) -> None:
    scene = seen(wide(seed))
    flash = scene * lamp(seed, 1.0, 3.0) + 60 * lamp(seed, 0.0, 1.0)
    assert cut_after([scene, scene, flash, scene, flash, flash, scene]) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dark", [0.05, 0.15, 0.4])
def test_a_light_that_is_switched_on_and_off_is_no_cut(seed: int, dark: float) -> None:
    scene = seen(wide(seed))
    off, on = noisy(scene * dark + 14, 1.5, seed), scene * lamp(seed, 0.35, 0.85)
    assert cut_after([off, off, on, on, off, off]) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_the_focus_is_no_cut(seed: int) -> None:
    scene = wide(seed)
    blurred = [seen(cv2.GaussianBlur(scene, (0, 0), sigma)) for sigma in (2.0, 5.0, 9.0, 6.0, 3.0)]
    assert cut_after([seen(scene), *blurred, seen(scene)]) == []
    assert cut_after([seen(scene), blurred[2], seen(scene)]) == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("across", [4, 20, 50])  # pixels a frame: 50 is the whole width in a quarter of a second
def test_a_camera_that_pans_is_no_cut(seed: int, across: int) -> None:
    scene = wide(seed)
    places = np.arange(-50, 51, across)
    panned = [cv2.blur(seen(scene, int(place)), (max(1, across // 2), 1)) for place in places]
    assert cut_after([*panned, *reversed(panned)]) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_a_camera_that_zooms_or_shakes_is_no_cut(seed: int) -> None:
    scene, made = wide(seed), np.random.default_rng(seed)
    zoomed = [seen(scene, zoom=zoom) for zoom in (1.0, 1.1, 1.2, 1.1, 1.0)]
    shaken = [seen(scene, *made.integers(-25, 26, 2).tolist()) for _ in range(6)]
    assert cut_after([*zoomed, *shaken]) == []


@pytest.mark.parametrize("seed", SEEDS)
def test_somebody_who_walks_by_close_to_the_camera_is_no_cut(seed: int) -> None:
    scene, person = seen(wide(seed)), seen(wide(seed + 5000))
    pictures = []
    for left in range(-120, WIDTH + 1, 30):  # a third of the width is hidden
        picture = scene.copy()
        inside = slice(max(0, left), max(0, min(WIDTH, left + 110)))
        picture[:, inside] = person[:, inside]
        pictures.append(picture)
    assert cut_after([scene, *pictures, scene]) == []


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("tone", [16, 20, 128, 235])
def test_noise_is_no_cut(seed: int, tone: int) -> None:
    flat = np.full((HEIGHT, WIDTH), tone, np.float32)
    assert cut_after([noisy(flat, 6.0, seed + number) for number in range(20)]) == []
    scene = seen(wide(seed))
    assert cut_after([noisy(scene, 15.0, seed + number) for number in range(20)]) == []


# What becomes of it.


def framed(seq: int, luma: Luma, time_s: float) -> Frame:
    return replace(make_frame("door", seq, Picture.from_rgb(rgb(luma))), time_s=time_s)


def test_frames_know_the_last_cut_before_them_so_that_any_may_be_dropped() -> None:
    one, other = seen(wide(1)), seen(wide(1001))
    pictures = [one, one, other, other, one]
    marked = list(mark_cuts(framed(10 + number, each, number / FPS) for number, each in enumerate(pictures)))
    assert [frame.cut_seq for frame in marked] == [-1, -1, 12, 12, 14]
    assert {frame.doubtful_seq for frame in marked} == {-1}


class Followed:
    """One stream's frames through the tracker and the smoother."""

    def __init__(self) -> None:
        self.tracker = Trackers(TrackingSettings(), THRESHOLDS, 0)
        self.smoother = Smoothers(SmoothingSettings(), 2, 2)
        self.seq = 0

    def see(self, box: Box, *, cut: int = -1, doubtful: int = -1, scene: tuple[float, float] = (0.9, 0.1)) -> Tracked:
        observed = make_observed(self.seq / FPS, [box], [box], scene=scene)
        frame = replace(observed.frame, seq=self.seq, cut_seq=cut, doubtful_seq=doubtful)
        self.seq += 1
        (tracked,) = self.tracker.update([replace(observed, frame=frame)])
        (self.result,) = self.smoother.update([Identified.with_names(tracked, (None,) * len(tracked.faces.ids))])
        return tracked


def test_no_track_and_no_smoothed_scene_survives_a_cut() -> None:
    followed = Followed()
    for _ in range(10):
        tracked = followed.see(LEFT)
    assert (tracked.objects.ids.tolist(), tracked.faces.ids.tolist()) == ([1], [1])
    assert followed.result.scene_label == 0
    tracked = followed.see(LEFT, cut=followed.seq, scene=(0.1, 0.9))
    assert tracked.cut
    assert (tracked.objects.ended.tolist(), tracked.faces.ended.tolist()) == ([1], [1])
    assert not len(tracked.objects.ids)
    assert followed.result.scene_label == -1
    for _ in range(10):
        tracked = followed.see(LEFT, cut=10, scene=(0.1, 0.9))
        assert not tracked.cut
    assert (tracked.objects.ids.tolist(), tracked.faces.ids.tolist()) == ([2], [2])
    assert followed.result.scene_label == 1


def test_a_cut_in_a_frame_that_was_dropped_is_one() -> None:
    followed = Followed()
    for _ in range(10):
        followed.see(LEFT)
    followed.seq += 3
    assert followed.see(LEFT, cut=followed.seq - 2).cut


def test_a_cut_in_a_frame_that_is_not_inferred_is_one() -> None:
    followed = Followed()
    for _ in range(10):
        followed.see(LEFT)
    frame = replace(make_frame("door", followed.seq), time_s=followed.seq / FPS, cut_seq=followed.seq)
    (tracked,) = followed.tracker.update([Skipped(frame, Timestamps(0, 0, 0, 0))])
    assert tracked.cut and tracked.objects.ended.tolist() == [1]
    followed.seq += 1
    assert not followed.see(LEFT, cut=frame.seq).cut


@pytest.mark.parametrize(("box", "cut"), [(LEFT, False), (RIGHT, True)], ids=["stayed", "elsewhere"])
def test_where_the_picture_leaves_doubt_the_boxes_decide(box: Box, cut: bool) -> None:
    followed = Followed()
    for _ in range(10):
        followed.see(LEFT)
    assert followed.see(box, doubtful=followed.seq).cut is cut


def test_without_doubt_boxes_may_be_anywhere() -> None:
    followed = Followed()
    for _ in range(10):
        followed.see(LEFT)
    assert not followed.see(RIGHT).cut
