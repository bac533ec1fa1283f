import sys
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

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


def quarters(size: tuple[int, int]) -> Image.Image:
    """A picture whose upper left quarter alone is red."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = (220, 20, 20)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    ("orientation", "size", "red"), [(1, (60, 40), (0, 0)), (6, (40, 60), (0, 1)), (3, (60, 40), (1, 1))]
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "avif"])
def test_a_photo_is_turned_upright_in_every_format(
    tmp_path: Path, suffix: str, orientation: int, size: tuple[int, int], red: tuple[int, int]
) -> None:
    file, exif = tmp_path / f"photo.{suffix}", Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    quarters((60, 40)).save(file, exif=exif, quality=95)
    pixels = read_rgb(file)
    assert pixels.shape == (size[1], size[0], 3)
    row, column = (side * part // 2 + side // 4 for side, part in zip(size[::-1], red, strict=True))
    assert pixels[row, column, 0] > 180 and pixels[..., 0].mean() < 80


def test_a_png_is_turned_as_imagemagick_says(tmp_path: Path) -> None:
    exif, text = Image.Exif(), PngInfo()
    exif[ExifTags.Base.Orientation] = 6
    content = exif.tobytes()
    text.add_text("Raw profile type exif", f"\nexif\n{len(content):8}\n{content.hex()}\n")
    quarters((60, 40)).save(tmp_path / "photo.png", pnginfo=text)
    pixels = read_rgb(tmp_path / "photo.png")
    assert pixels.shape == (60, 40, 3) and pixels[15, 30, 0] > 180


def test_heif_is_read_with_its_extra(tmp_path: Path) -> None:
    pillow_heif.from_pillow(quarters((60, 40))).save(tmp_path / "photo.heic", quality=95)
    pixels = read_rgb(tmp_path / "photo.heic")
    assert pixels.shape == (40, 60, 3) and pixels[10, 15, 0] > 180


def test_without_it_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pillow_heif.from_pillow(quarters((60, 40))).save(tmp_path / "photo.heic", quality=95)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(DataError, match=r"is HEIF .*pip install 'trunkline\[heif\]'; or save it as JPEG"):
        read_rgb(tmp_path / "photo.heic")


def test_deep_grey_of_a_heif_is_not_white(tmp_path: Path) -> None:
    grey = np.full((40, 60), 64 << 8, np.uint16)
    pillow_heif.from_bytes("L;16", (60, 40), grey.tobytes()).save(tmp_path / "photo.heic", quality=95)
    assert np.abs(read_rgb(tmp_path / "photo.heic").astype(int) - 64).max() <= 2


def test_what_opencv_does_not_read_pillow_does(tmp_path: Path) -> None:
    quarters((60, 40)).save(tmp_path / "photo.ico", sizes=[(60, 40)])
    assert read_rgb(tmp_path / "photo.ico")[5, 5].tolist() == [220, 20, 20]


@pytest.mark.parametrize("brand", [b"avif", b"heic"])
def test_a_damaged_one_is_said(tmp_path: Path, brand: bytes) -> None:
    (tmp_path / "photo").write_bytes(b"\0\0\0\x20ftyp" + brand + b"\0" * 200)
    with pytest.raises(DataError, match="cannot be decoded"):
        read_rgb(tmp_path / "photo")
