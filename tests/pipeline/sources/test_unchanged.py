"""When a frame is worth inferring: motion is, noise is not."""

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.luma import COLUMNS, ROWS, luma_points
from pipeline.frames.picture import Picture
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture
from pipeline.sources.rate import Rates, mark_skipped
from pipeline.sources.unchanged import BEGIN_S, HOLD_S, MotionGate

FPS = 30
WIDTH, HEIGHT = 320, 180
BEGIN = round(BEGIN_S * FPS) + 1  # frames
Luma = np.ndarray


def scene() -> Luma:
    """A picture with flat and textured parts, luma 60 to 180."""
    return SCENE.copy()


def _scene() -> Luma:
    made = np.random.default_rng(0)
    coarse = made.uniform(60, 180, (9, 16)).astype(np.float32)
    smooth = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    texture = made.uniform(-20, 20, (HEIGHT, WIDTH)) * (np.arange(WIDTH) > WIDTH // 2)
    return np.asarray(smooth + texture, np.float32)


SCENE = _scene()


def looked(pictures: list[Luma], fps: float = FPS, gate: MotionGate | None = None) -> list[bool]:
    gate = gate or MotionGate(1.0)
    answers = []
    for number, pixels in enumerate(pictures):
        plane = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
        answers.append(gate.look(luma_points(Picture((plane, plane, plane), WIDTH, HEIGHT)), number / fps))
    return answers


def noisy(pictures: list[Luma], sigma: float, seed: int = 1) -> list[Luma]:
    made = np.random.default_rng(seed)
    fields = made.normal(0.0, sigma, (31, HEIGHT, WIDTH)).astype(np.float32)  # 31: no key frame meets the same twice
    return [picture + fields[number % 31] for number, picture in enumerate(pictures)]


def walked(start: int, count: int, contrast: float = 25.0, step: int = 2) -> list[Luma]:
    """From frame ``start`` on a person, 5 % as high as the picture, walks through it."""
    pictures = []
    height, width = HEIGHT // 20, HEIGHT // 55
    for number in range(count):
        picture = scene()
        if number >= start:
            left = 50 + step * (number - start)
            picture[100 : 100 + height, left : left + width] += contrast
        pictures.append(picture)
    return pictures


def test_the_grid_sees_a_person_of_5_percent_in_two_rows_at_least() -> None:
    assert ROWS / 20 >= 2
    assert luma_points(Picture((np.zeros((1080, 1920), np.uint8),) * 3, 1920, 1080)).shape == (ROWS, COLUMNS)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (53, 127), (1919, 1081)])
def test_pictures_of_any_size_have_points(size: tuple[int, int]) -> None:
    width, height = size
    points = luma_points(Picture.from_rgb(np.full((height, width, 3), 7, np.uint8)))
    assert points.size > 0
    assert (points == 7).all()
    gate = MotionGate(1.0)
    assert gate.look(points, 0.0)
    gate.look(points, 2.0)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0])
def test_a_still_scene_is_inferred_at_the_least_rate_whatever_the_sensors_noise(sigma: float) -> None:
    answers = looked(noisy([scene()] * (BEGIN + 10 * FPS), sigma))
    assert all(answers[: BEGIN - 1]), "at the beginning all are, until tracks are confirmed"
    assert 8 <= sum(answers[BEGIN:]) <= 14


@pytest.mark.parametrize("rate", [0.5, 2.0, 10.0])
def test_the_least_rate_is_kept(rate: float) -> None:
    answers = looked([scene()] * (BEGIN + 10 * FPS), gate=MotionGate(rate))
    assert sum(answers[BEGIN:]) == pytest.approx(10 * rate, abs=1)


@pytest.mark.parametrize("sigma", [0.0, 1.0, 3.0])
def test_the_very_frame_in_which_somebody_small_appears_is_inferred_and_those_that_follow(sigma: float) -> None:
    start = 4 * FPS + 7
    answers = looked(noisy(walked(start, start + 2 * FPS), sigma))
    assert answers[start]
    assert sum(answers[start:]) >= 0.9 * 2 * FPS


def test_after_motion_the_rate_falls_again_when_tracks_have_come_to_rest() -> None:
    start, stop = 3 * FPS, 4 * FPS
    moving = walked(start, stop)
    answers = looked(moving + [moving[-1]] * (3 * FPS))
    hold = round(HOLD_S * FPS)
    assert all(answers[start : stop + hold - 1])
    assert sum(answers[stop + hold + 1 :]) <= 3


def test_somebody_slow_is_followed_by_inferring_when_the_change_has_added_up() -> None:
    start = 3 * FPS
    pictures = walked(start, start + 4 * FPS, step=0)
    for number in range(start, len(pictures)):
        pictures[number] = np.roll(pictures[number], (number - start) // 12, axis=1)  # 2.5 pixels a second
    assert sum(looked(pictures)[start:]) >= 9


def test_key_frames_that_sharpen_the_whole_picture_cost_one_inference_each_at_the_most() -> None:
    made = np.random.default_rng(2)
    pictures = [scene()] * (BEGIN + 10 * FPS)
    for number in range(0, len(pictures), FPS):
        blur = made.normal(0.0, 2.5, (HEIGHT // 8, WIDTH // 8)).astype(np.float32)  # of the group that it begins
        wide = cv2.resize(blur, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        pictures[number : number + FPS] = [scene() + wide] * len(pictures[number : number + FPS])
    assert sum(looked(noisy(pictures, 0.5))[BEGIN:]) <= 24


def test_light_that_drifts_is_followed() -> None:
    pictures = [scene() + 3.0 * number / FPS for number in range(BEGIN + 10 * FPS)]
    assert sum(looked(noisy(pictures, 1.0))[BEGIN:]) <= 14


def test_a_clock_in_the_picture_costs_one_inference_a_tick() -> None:
    pictures = [scene() for _ in range(BEGIN + 10 * FPS)]
    for number, picture in enumerate(pictures):
        picture[10:30, 10:25] = 255.0 if number // FPS % 2 else 0.0
    assert sum(looked(pictures)[BEGIN:]) <= 24


@pytest.mark.parametrize("change", ["the light goes on", "the camera turns"])
def test_when_everything_changes_the_next_frames_are_inferred_too(change: str) -> None:
    start = 3 * FPS
    after = scene() + 40.0 if change == "the light goes on" else np.roll(scene(), 100, axis=1)
    answers = looked([scene()] * start + [after] * FPS)
    assert all(answers[start : start + round(HOLD_S * FPS)])


def test_the_beginning_and_another_picture_size_and_a_step_back_in_time_are_inferred() -> None:
    gate = MotionGate(0.001)
    points = luma_points(Picture.from_rgb(np.zeros((HEIGHT, WIDTH, 3), np.uint8)))
    assert gate.look(points, 0.0)
    assert not gate.look(points, 10.0)
    assert gate.look(points[:-1], 11.0)
    assert not gate.look(points[:-1], 20.0)
    assert gate.look(points[:-1], 5.0)


@given(st.lists(st.tuples(st.floats(0.0, 0.7), st.integers(0, 255)), max_size=40), st.floats(0.5, 20.0))
def test_whatever_is_seen_no_two_inferences_are_further_apart_than_the_least_rate_says(
    frames: list[tuple[float, int]], rate: float
) -> None:
    gate, time_s, inferred_s = MotionGate(rate), 0.0, 0.0
    for step_s, level in frames:
        time_s += step_s
        if gate.look(np.full((4, 4), level, np.uint8), time_s):
            inferred_s = time_s
        assert time_s - inferred_s <= 1.001 / rate


def test_a_compressed_clip_of_a_still_scene_is_still(make_clip: Callable[..., Path], tmp_path: Path) -> None:
    made = np.random.default_rng(3)

    def filmed(index: int) -> Luma:
        pixels = scene()[..., None] + made.normal(0.0, 2.0, (HEIGHT, WIDTH, 1))
        if index >= 75:
            pixels[100:110, 2 * index : 2 * index + 5] += 40
        return np.clip(pixels, 0, 255).repeat(3, axis=2).astype(np.uint8)

    clip = make_clip(tmp_path / "clip.mp4", 100, (WIDTH, HEIGHT), 25, filmed)
    settings = StreamSettings(name="a", source=str(clip))
    captured = capture(settings, stop=threading.Event(), health=lambda report: None)
    frames = list(mark_skipped(captured, lambda: Rates("auto", 1.0), live=False))
    assert sum(not frame.unchanged for frame in frames[30:75]) <= 8
    assert not any(frame.unchanged for frame in frames[75:])
