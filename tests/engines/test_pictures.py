from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.boxes import Letterbox, letterbox
from engines.errors import DataError
from engines.pictures import PADDING_GREY, letterbox_rgb, read_rgb, resize

SIDES = st.integers(1, 90)


def test_reads_rgb_and_not_bgr(tmp_path: Path) -> None:
    red = np.zeros((4, 6, 3), np.uint8)
    red[..., 2] = 200  # OpenCV writes BGR
    cv2.imwrite(str(tmp_path / "red.png"), red)
    pixels = read_rgb(tmp_path / "red.png")
    assert pixels.shape == (4, 6, 3)
    assert pixels[0, 0].tolist() == [200, 0, 0]


def test_a_grey_picture_becomes_three_equal_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((3, 3), 77, np.uint8))
    assert read_rgb(tmp_path / "grey.png").tolist() == np.full((3, 3, 3), 77).tolist()


@pytest.mark.parametrize(("case", "content"), [("an empty file", b""), ("not a picture", b"hello"), ("missing", None)])
def test_an_unreadable_picture_is_named(tmp_path: Path, case: str, content: bytes | None) -> None:
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.png"):
        read_rgb(path)


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_letterboxed_picture_lies_where_the_letterbox_says(width: int, height: int, wide: int, high: int) -> None:
    box = letterbox((width, height), (wide + 1, high + 1))
    canvas = letterbox_rgb(np.full((height, width, 3), 250, np.uint8), box)
    assert canvas.shape == (high + 1, wide + 1, 3)
    inside = np.zeros(canvas.shape[:2], np.bool_)
    inside[box.pad[1] : box.pad[1] + box.scaled[1], box.pad[0] : box.pad[0] + box.scaled[0]] = True
    assert (canvas[inside] == 250).all()
    assert (canvas[~inside] == PADDING_GREY).all()


def test_the_original_is_left_alone() -> None:
    pixels = np.full((4, 4, 3), 9, np.uint8)
    letterbox_rgb(pixels, letterbox((4, 4), (8, 4)))[:] = 0
    assert (pixels == 9).all()


def test_pixels_of_another_size_are_refused() -> None:
    box = Letterbox((10, 4), (10, 10), (10, 4), (0, 2))
    with pytest.raises(ValueError, match="4x10, but the letterbox is for 10x4"):
        letterbox_rgb(np.zeros((10, 4, 3), np.uint8), box)


def test_fine_stripes_shrink_to_their_mean_and_do_not_alias() -> None:
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::4] = 200
    small = resize(stripes, (10, 10))
    assert np.abs(small.astype(int) - 50).max() <= 1
