"""Pictures into the network's input."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engines.arrays import Pixels
from engines.boxes import letterbox
from engines.pictures import PADDING_GREY
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.picture import Matrix, Picture
from pipeline.frames.types import Batch, Frame
from pipeline.inference.preprocess import place_only, preprocess

TARGET = (128, 96)  # width, height


def smooth(height: int, width: int) -> Pixels:
    """Slow waves of colour, different along each axis and in each channel."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = (np.sin(3 * x + y), np.cos(2 * y - x), np.sin(4 * x * y + 1))
    return np.stack([128 + 90 * wave for wave in waves], axis=-1).astype(np.uint8)


def boxed(picture: Picture, target: tuple[int, int] = TARGET) -> Pixels:
    out = np.full((target[1], target[0], 3), 255, np.uint8)
    letterbox_into(picture, letterbox((picture.width, picture.height), target), out)
    return out


def frame_of(picture: Picture) -> Frame:
    return Frame("door", 0, 0, 0, 0.0, picture)


@pytest.mark.parametrize("matrix", ["bt601", "bt709"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    "size",
    [(96, 128), (540, 960), (288, 384), (60, 40), (48, 500), (242, 322), (241, 321)],
    ids=["as it is", "7.5 times smaller", "3 times smaller", "larger, upright", "a strip", "halves oddly", "odd"],
)
def test_planes_and_rgb_give_the_same_input(
    yuv_picture: Callable[..., Picture], size: tuple[int, int], full_range: bool, matrix: Matrix
) -> None:
    rgb = smooth(*size)
    difference = boxed(yuv_picture(rgb, matrix, full_range)).astype(int) - boxed(Picture.from_rgb(rgb))
    assert np.abs(difference).mean() < 1.5
    assert np.abs(difference).max() <= 8


@settings(deadline=None, max_examples=50)
@given(width=st.integers(8, 400), height=st.integers(8, 400), planar=st.booleans())
def test_picture_lies_where_its_letterbox_says_and_grey_lies_elsewhere(width: int, height: int, planar: bool) -> None:
    if planar:
        chroma = np.full(((height + 1) // 2, (width + 1) // 2), 128, np.uint8)
        picture = Picture((np.full((height, width), 235, np.uint8), chroma, chroma), width, height)
    else:
        picture = Picture.from_rgb(np.full((height, width, 3), 255, np.uint8))
    box = letterbox((width, height), TARGET)
    out = boxed(picture)
    (left, top), (scaled_width, scaled_height) = box.pad, box.scaled
    inside = out[top : top + scaled_height, left : left + scaled_width]
    assert inside.min() >= 254
    out[top : top + scaled_height, left : left + scaled_width] = PADDING_GREY
    assert (out == PADDING_GREY).all()


@settings(deadline=None, max_examples=50)
@given(
    width=st.integers(16, 400),
    height=st.integers(16, 400),
    x=st.floats(0.2, 0.8),
    y=st.floats(0.2, 0.8),
)
@example(width=16, height=220, x=0.8, y=0.5)  # three bright columns become one
def test_an_edge_in_the_source_is_found_where_the_letterbox_maps_it(
    width: int, height: int, x: float, y: float
) -> None:
    column, row = round(x * width), round(y * height)
    box = letterbox((width, height), TARGET)
    (left, top), (scaled_width, scaled_height) = box.pad, box.scaled

    def inside(*bright: slice) -> np.ndarray:
        rgb = np.zeros((height, width, 3), np.uint8)
        rgb[bright] = 255
        return boxed(Picture.from_rgb(rgb))[top : top + scaled_height, left : left + scaled_width, 0] / 255.0

    # The bright part's extent along its last row and column, to a fraction of a pixel. One edge at a time: where few
    # bright columns become fewer, the last is not as bright as they are.
    across, down = inside(slice(None), slice(column, None)), inside(slice(row, None))
    found = (left + scaled_width - across[-1].sum(), top + scaled_height - down[:, -1].sum())
    expected = box.to_input(np.array([column, row], np.float32))
    # Interpolation clamps at the border, and a pixel enlarged is a step spread over itself.
    assert found == pytest.approx(expected, abs=0.6)


def test_fine_stripes_scaled_to_a_third_turn_grey_instead_of_aliasing() -> None:
    stripes = np.zeros((288, 384, 3), np.uint8)
    stripes[:, ::2] = 255
    out = boxed(Picture.from_rgb(stripes)).astype(int)
    assert np.abs(out - 127.5).max() <= 2


def test_saturated_red_survives_a_wide_screen(yuv_picture: Callable[..., Picture]) -> None:
    out = boxed(yuv_picture(np.full((90, 160, 3), (255, 0, 0), np.uint8), "bt709", True))
    assert out[48, 64] == pytest.approx([255, 0, 0], abs=3)
    assert (out[0] == PADDING_GREY).all()


def test_refuses_an_out_of_another_size() -> None:
    picture = Picture.from_rgb(np.zeros((10, 10, 3), np.uint8))
    with pytest.raises(ValueError, match=r"out must have the shape \(96, 128, 3\), got \(128, 96, 3\)"):
        letterbox_into(picture, letterbox((10, 10), TARGET), np.zeros((128, 96, 3), np.uint8))


def test_a_batch_of_different_sizes_becomes_one_array_with_a_letterbox_each(
    yuv_picture: Callable[..., Picture],
) -> None:
    pictures = (yuv_picture(smooth(90, 160)), Picture.from_rgb(smooth(200, 100)))
    batch = Batch(tuple(frame_of(picture) for picture in pictures), taken_ns=5)
    (prepared,) = preprocess([batch], (96, 128))
    assert prepared.batch is batch
    assert prepared.pixels.shape == (2, 96, 128, 3)
    assert [box.source for box in prepared.letterboxes] == [(160, 90), (100, 200)]
    for row, picture in zip(prepared.pixels, pictures, strict=True):
        assert np.array_equal(row, boxed(picture))


def test_where_the_engine_letterboxes_only_the_places_are_made(yuv_picture: Callable[..., Picture]) -> None:
    pictures = (yuv_picture(smooth(90, 160)), Picture.from_rgb(smooth(200, 100)), yuv_picture(smooth(90, 160)))
    batch = Batch(tuple(frame_of(picture) for picture in pictures), taken_ns=5, skipped=frozenset([2]))
    (prepared,) = place_only([batch], (96, 128))
    assert prepared.batch is batch
    assert prepared.pixels.shape == (0, 96, 128, 3)
    assert [box.source for box in prepared.letterboxes] == [(160, 90), (100, 200)]


def test_a_batch_keeps_its_pixels_while_the_next_ones_are_made() -> None:
    batches = [
        Batch((frame_of(Picture.from_rgb(np.full((96, 128, 3), level, np.uint8))),), taken_ns=0)
        for level in (10, 20, 30)
    ]
    prepared = list(preprocess(batches, (96, 128)))
    assert [int(batch.pixels[0, 0, 0, 0]) for batch in prepared] == [10, 20, 30]
