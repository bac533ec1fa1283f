"""Letterboxing in PyTorch's operations, on the CPU, beside what the pipeline does with OpenCV."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engines.arrays import Pixels
from engines.backends import torch_letterbox
from engines.backends.torch_letterbox import TorchLetterbox, area_weights
from engines.boxes import letterbox
from engines.pictures import PADDING_GREY
from pipeline.frames.letterboxing import letterbox_into
from pipeline.frames.picture import Matrix, Picture

CPU = torch.device("cpu")
TARGET = (128, 96)  # width, height
# What values rounded once may differ by from values rounded after each step, of 255: any one, and in the mean.
MOST, MEAN = 4, 0.75


def textured(height: int, width: int, seed: int = 0) -> Pixels:
    """Shapes of all sizes down to single pixels: RGB (H, W, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (max(height // 8, 2), max(width // 8, 2), 3), np.uint8)
    grain = random.normal(0, 12, (height, width, 3))
    return (cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) + grain).clip(0, 255).astype(np.uint8)


def both(pictures: list[Picture], target: tuple[int, int] = TARGET) -> tuple[npt.NDArray[np.int64], ...]:
    """The batch as PyTorch fills it, and as OpenCV does."""
    width, height = target
    boxes = [letterbox((picture.width, picture.height), target) for picture in pictures]
    found = torch.full((len(pictures), height, width, 3), 77, dtype=torch.uint8)
    TorchLetterbox(CPU).fill([picture.placed(box) for picture, box in zip(pictures, boxes, strict=True)], found)
    wanted = np.zeros(found.shape, np.uint8)
    for picture, box, out in zip(pictures, boxes, wanted, strict=True):
        letterbox_into(picture, box, out)
    return found.numpy().astype(np.int64), wanted.astype(np.int64)


def assert_alike(pictures: list[Picture], target: tuple[int, int] = TARGET) -> None:
    found, wanted = both(pictures, target)
    for one, other in zip(found, wanted, strict=True):
        assert np.abs(one - other).max() <= MOST
        assert np.abs(one - other).mean() < MEAN


@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize(
    "size",
    [(96, 128), (540, 960), (360, 640), (242, 322), (241, 321), (60, 40), (48, 500), (1080, 1920), (2, 3)],
    ids=["as it is", "halved", "5 times", "halves oddly", "odd", "larger, upright", "a strip", "large", "tiny"],
)
def test_planes_of_every_size_and_colour(
    yuv_picture: Callable[..., Picture], size: tuple[int, int], full_range: bool, matrix: Matrix
) -> None:
    assert_alike([yuv_picture(textured(*size), matrix, full_range)])


@pytest.mark.parametrize("size", [(96, 128), (540, 960), (241, 321), (60, 40), (2, 3)])
def test_rgb_of_every_size(size: tuple[int, int]) -> None:
    assert_alike([Picture.from_rgb(textured(*size))])


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_picture_that_was_turned(yuv_picture: Callable[..., Picture], turns: int) -> None:
    upright = yuv_picture(textured(241, 321))
    planes = tuple(np.ascontiguousarray(np.rot90(plane, turns)) for plane in upright.planes)
    height, width = planes[0].shape
    assert_alike([Picture(planes, width, height)])


def test_grey_stays_grey() -> None:
    luma = textured(240, 320)[..., 0]
    chroma = np.full((120, 160), 128, np.uint8)
    found, _ = both([Picture((luma, chroma, chroma), 320, 240, full_range=True)])
    assert (found.max(axis=-1) - found.min(axis=-1) <= 1).all(), "where half a step is rounded up or down"
    assert_alike([Picture((luma, chroma, chroma), 320, 240)])


def test_planes_may_be_views_into_longer_lines(yuv_picture: Callable[..., Picture]) -> None:
    picture = yuv_picture(textured(240, 320))
    views = tuple(np.pad(plane, ((0, 0), (0, 32)))[:, : plane.shape[1]] for plane in picture.planes)
    assert_alike([Picture(views, 320, 240)])


@settings(max_examples=40)
@given(width=st.integers(2, 400), height=st.integers(2, 400), planar=st.booleans(), seed=st.integers(0, 9))
def test_any_size_is_like_opencvs(width: int, height: int, planar: bool, seed: int) -> None:
    rgb = textured(height, width, seed)
    chroma = ((height + 1) // 2, (width + 1) // 2)
    planes = (rgb[..., 0], *(np.ascontiguousarray(rgb[: chroma[0], : chroma[1], at]) for at in (1, 2)))
    assert_alike([Picture(planes, width, height) if planar else Picture.from_rgb(rgb)])


def test_pictures_of_all_kinds_in_one_batch_keep_their_places(yuv_picture: Callable[..., Picture]) -> None:
    pictures = [
        yuv_picture(textured(240, 320, seed=1)),
        Picture.from_rgb(textured(240, 320, seed=2)),
        yuv_picture(textured(240, 320, seed=3), "bt709"),
        yuv_picture(textured(240, 320, seed=4)),
        yuv_picture(textured(320, 240, seed=5), full_range=True),
        yuv_picture(textured(240, 320, seed=6)),
    ]
    assert_alike(pictures)
    assert_alike(pictures[::-1])


def test_what_lies_beside_the_picture_is_grey_also_where_another_lay_before() -> None:
    letterboxer = TorchLetterbox(CPU)
    out = torch.empty((1, 96, 128, 3), dtype=torch.uint8)
    for size in ((96, 128), (48, 500)):
        picture = Picture.from_rgb(np.full((*size, 3), 255, np.uint8))
        box = letterbox((picture.width, picture.height), TARGET)
        letterboxer.fill([picture.placed(box)], out)
    (left, top), (width, height) = box.pad, box.scaled
    assert (out[0, top : top + height, left : left + width] == 255).all()
    out[0, top : top + height, left : left + width] = PADDING_GREY
    assert (out == PADDING_GREY).all()


def test_memory_grows_with_the_batches(yuv_picture: Callable[..., Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_letterbox, "MIN_STAGED", 16)
    assert_alike([yuv_picture(textured(240, 320, seed)) for seed in range(3)])


def test_colours_are_not_computed_in_the_networks_precision(yuv_picture: Callable[..., Picture]) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert_alike([yuv_picture(textured(240, 320))])


@pytest.mark.parametrize(("source", "target"), [(683, 288), (7, 3), (5, 5), (10, 2)])
def test_weights_of_areas_are_opencvs(source: int, target: int) -> None:
    line = textured(1, source)[..., :1].astype(np.float32)
    wanted = cv2.resize(line[..., 0], (target, 1), interpolation=cv2.INTER_AREA)
    weights = area_weights(source, target, CPU).numpy()
    np.testing.assert_allclose(weights @ line[0, :, 0], wanted[0], rtol=1e-4)
    np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-6)
