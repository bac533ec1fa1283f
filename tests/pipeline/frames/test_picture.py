"""Planes to RGB, whole and in part."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.arrays import Pixels
from pipeline.frames.picture import Matrix, Picture, yuv_to_rgb

MAX_ERROR = 3  # grey levels: two roundings, and the fixed-point arithmetic between them


def noise(height: int, width: int) -> Pixels:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def noisy_planes(height: int, width: int) -> Picture:
    rng = np.random.default_rng(7)
    chroma = ((height + 1) // 2, (width + 1) // 2)
    planes = tuple(rng.integers(0, 256, shape, dtype=np.uint8) for shape in ((height, width), chroma, chroma))
    return Picture(planes, width=width, height=height)


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    "colour",
    [(0, 0, 0), (255, 255, 255), (114, 114, 114), (255, 0, 0), (0, 255, 0), (0, 0, 255), (196, 144, 121)],
    ids=["black", "white", "grey", "red", "green", "blue", "skin"],
)
def test_colours_come_back_in_every_standard(
    yuv_picture: Callable[..., Picture], matrix: Matrix, full_range: bool, colour: tuple[int, int, int]
) -> None:
    picture = yuv_picture(np.full((4, 6, 3), colour, np.uint8), matrix, full_range)
    assert np.abs(picture.rgb().astype(int) - colour).max() <= MAX_ERROR


def test_the_standard_matters(yuv_picture: Callable[..., Picture]) -> None:
    picture = yuv_picture(np.full((4, 4, 3), (30, 180, 90), np.uint8), "bt709")
    misread = Picture(picture.planes, picture.width, picture.height, matrix="bt601")
    assert np.abs(misread.rgb().astype(int) - picture.rgb()).max() > MAX_ERROR


@pytest.mark.parametrize("size", [(2, 2), (1, 1), (3, 5), (241, 321), (600, 8)], ids=str)
def test_whole_picture_keeps_its_size_odd_ones_too(size: tuple[int, int]) -> None:
    assert noisy_planes(*size).rgb().shape == (*size, 3)


def test_each_chroma_sample_colours_its_own_four_pixels_in_a_tall_odd_picture() -> None:
    picture = noisy_planes(601, 321)
    y, u, v = picture.planes
    expected = np.empty((601, 321, 3), np.uint8)
    upsampled = [plane.repeat(2, axis=0).repeat(2, axis=1)[:601, :321] for plane in (u, v)]
    yuv_to_rgb((y, *upsampled), "bt601", False, expected)
    assert np.array_equal(picture.rgb(), expected)


@given(
    box=st.tuples(*[st.floats(-50, 150, allow_nan=False)] * 4),
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    planar=st.booleans(),
)
def test_a_crop_is_that_part_of_the_whole_and_covers_the_box(
    box: tuple[float, float, float, float], size: tuple[int, int], planar: bool
) -> None:
    picture = noisy_planes(*size) if planar else Picture.from_rgb(noise(*size))
    pixels, (left, top) = picture.crop(box)
    height, width = pixels.shape[:2]
    assert height >= 1 and width >= 1
    assert np.array_equal(pixels, picture.rgb()[top : top + height, left : left + width])
    x0, y0, x1, y1 = np.clip(box, 0, [size[1], size[0]] * 2)
    assert left <= x0 and top <= y0
    assert x1 <= left + width and y1 <= top + height
    assert not planar or (left % 2 == 0 and top % 2 == 0)


@pytest.mark.parametrize(
    ("box", "corner", "shape"),
    [
        pytest.param((3.2, 5.9, 8.1, 9.0), (2, 4), (5, 7, 3), id="grows to whole pixels and an even corner"),
        pytest.param((-9, -9, 3, 3), (0, 0), (3, 3, 3), id="hangs over the top left"),
        pytest.param((15, 9, 99, 99), (14, 8), (4, 6, 3), id="hangs over the bottom right"),
        pytest.param((50, 50, 60, 60), (18, 10), (2, 2, 3), id="beside the picture: the nearest corner"),
        pytest.param((7, 7, 7, 7), (6, 6), (2, 2, 3), id="empty"),
        pytest.param((9, 9, 4, 4), (8, 8), (2, 2, 3), id="inside out"),
    ],
)
def test_crop_of_a_20x12_picture(
    box: tuple[float, float, float, float], corner: tuple[int, int], shape: tuple[int, int, int]
) -> None:
    pixels, found = noisy_planes(12, 20).crop(box)
    assert (found, pixels.shape) == (corner, shape)


@pytest.mark.parametrize("picture", [noisy_planes(8, 8), Picture.from_rgb(noise(8, 8))], ids=["planes", "rgb"])
def test_pixels_given_away_are_the_callers_own(picture: Picture) -> None:
    before = [plane.copy() for plane in picture.planes]
    picture.rgb()[:] = 0
    picture.crop((0, 0, 4, 4))[0][:] = 0
    assert all(np.array_equal(a, b) for a, b in zip(before, picture.planes, strict=True))


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
    ids=["grey", "four channels", "floats", "no pixels"],
)
def test_from_rgb_refuses(pixels: Pixels) -> None:
    with pytest.raises(ValueError, match="pixels must be uint8 of shape"):
        Picture.from_rgb(pixels)


def test_yuv_to_rgb_refuses_an_out_of_another_size() -> None:
    y = np.zeros((4, 4), np.uint8)
    with pytest.raises(ValueError, match=r"out must have the shape \(4, 4, 3\), got \(4, 5, 3\)"):
        yuv_to_rgb((y, y, y), "bt601", False, np.zeros((4, 5, 3), np.uint8))
