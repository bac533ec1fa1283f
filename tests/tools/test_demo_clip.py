from functools import cache
from pathlib import Path

import av
import msgspec
import numpy as np
import pytest

from engines.errors import DataError
from tools import demo_clip
from tools.demo_clip import FRAMES, Renderer, render
from tools.demo_scene import APPEARANCES, HEIGHT, PHOTOGRAPHS, RATE, SECONDS, WIDTH, Photograph, seen_at

TIMES = np.arange(0, SECONDS, 0.2)
shown_at = cache(seen_at)


def times_of(photo: str) -> list[float]:
    """When most of a photograph can be seen."""
    return [time for time in TIMES if any(seen.photo == photo and seen.visible > 0.7 for seen in shown_at(time))]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer()


@pytest.mark.parametrize("photo", PHOTOGRAPHS.values(), ids=PHOTOGRAPHS)
def test_every_photograph_is_there_and_of_its_stated_size(photo: Photograph) -> None:
    pixels = demo_clip.read_rgb(photo.path)
    assert (pixels.shape[1], pixels.shape[0]) == photo.size


def test_a_photograph_whose_package_is_missing_is_named_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"photograph lost\.png comes with .* pip install 'trunkline\[demo\]'"):
        _ = Photograph("no_such_package", "data/lost.png", (1, 1), "person").path


def test_the_astronaut_is_there_early_and_often() -> None:
    times = times_of("astronaut")
    assert times[0] < 2
    assert len(times) > 0.4 * len(TIMES)
    assert any(time > SECONDS * 0.8 for time in times)


def test_grace_hopper_is_there_well_before_half_time_around_it_and_at_the_end() -> None:
    times = times_of("hopper")
    half = SECONDS / 2
    assert sum(time < half - 5 for time in times) > 10
    assert all(any(abs(time - moment) < 0.11 for time in times) for moment in np.arange(half - 1, half + 5, 0.2))
    assert any(time > SECONDS - 2 for time in times)


def test_people_are_never_shown_twice_at_once() -> None:
    for time in TIMES:
        people = [seen.person for seen in shown_at(time) if seen.person]
        assert len(people) == len(set(people))


def test_several_things_are_there_at_once_at_times_and_none_at_others() -> None:
    counts = [sum(seen.visible > 0.5 for seen in shown_at(time)) for time in TIMES]
    assert max(counts) >= 2
    assert counts[0] == 0


def test_faces_are_mostly_between_80_and_300_pixels_tall() -> None:
    tall = [seen.face[3] - seen.face[1] for time in TIMES for seen in shown_at(time) if seen.face]
    assert np.mean([80 <= height <= 300 for height in tall]) > 0.9


def test_the_truth_stays_inside_the_picture_and_faces_inside_their_photographs() -> None:
    for time in TIMES:
        for seen in shown_at(time):
            x0, y0, x1, y1 = seen.box
            assert 0 <= x0 < x1 <= WIDTH
            assert 0 <= y0 < y1 <= HEIGHT
            assert 0 < seen.visible <= 1
            if seen.face:
                assert x0 <= seen.face[0] < seen.face[2] <= x1
                assert y0 <= seen.face[1] < seen.face[3] <= y1


@pytest.mark.parametrize("appearance", APPEARANCES, ids=lambda appearance: appearance.photo)
def test_an_appearance_begins_and_ends_at_its_poses_and_moves_without_jumps(appearance) -> None:
    first, last = appearance.poses[0].time_s, appearance.poses[-1].time_s
    assert appearance.at(first - 0.01) is None
    assert appearance.at(last) is None
    poses = [appearance.at(time) for time in np.arange(first, last - 0.001, 1 / RATE)]
    steps = np.diff([(pose.x, pose.y) for pose in poses], axis=0)
    assert np.abs(steps).max() < 80  # pixels from one frame to the next


def test_a_frame_is_the_same_every_time(renderer: Renderer) -> None:
    number = 6 * RATE
    assert (renderer.frame(number) == Renderer().frame(number)).all()


def test_the_photograph_is_drawn_where_the_truth_says(renderer: Renderer) -> None:
    number = 2 * RATE
    picture = renderer.frame(number).astype(int)
    (seen,) = shown_at(number / RATE)
    assert picture.shape == (HEIGHT, WIDTH, 3)
    x0, y0, x1, y1 = (round(value) for value in seen.face)
    red, green, blue = picture[(y0 + y1) // 2 : y1, x0 + 20 : x1 - 20].reshape(-1, 3).mean(axis=0)
    assert red > green > blue  # skin
    assert picture[:, 1100:].std() < 60  # and the blurred background beside it
    outside = renderer.frame(0).astype(int)
    assert np.abs(picture - outside)[y0:y1, x0:x1].mean() > 30


def test_a_dimmed_photograph_is_darker(renderer: Renderer) -> None:
    def brightness(time: float) -> float:
        (seen,) = (seen for seen in shown_at(time) if seen.photo == "astronaut")
        x0, y0, x1, y1 = (round(value) for value in seen.face)
        return renderer.frame(round(time * RATE))[y0:y1, x0:x1].mean()

    assert brightness(7.8) < 0.7 * brightness(2.0)


def test_the_clip_and_its_truth_have_the_same_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_clip, "FRAMES", 12)
    advanced = []
    render(tmp_path / "clip.mp4", tmp_path / "truth.json", lambda: advanced.append(1))
    with av.open(str(tmp_path / "clip.mp4")) as container:
        video = container.streams.video[0]
        assert (video.width, video.height, video.average_rate) == (WIDTH, HEIGHT, RATE)
        assert sum(1 for _ in container.decode(video)) == 12
    truth = msgspec.json.decode((tmp_path / "truth.json").read_bytes())
    assert len(truth["frames"]) == len(advanced) == 12
    assert truth["frames"][10][0]["person"] == "Eileen Collins"
    assert FRAMES == SECONDS * RATE
