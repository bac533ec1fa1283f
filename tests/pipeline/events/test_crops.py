"""Best views as JPEG: which are taken, how large they are, and what they show."""

import cv2
import numpy as np
import pytest

from pipeline.events.crops import AT_ONCE, SIDE, BestCrops, cut_jpeg
from pipeline.frames.picture import Picture
from tests.pipeline.made_tracks import Box, boxes_array


def half_and_half(width: int = 800, height: int = 600) -> np.ndarray:
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0], pixels[:, width // 2 :, 2] = 200, 200
    return pixels


def look(crops: BestCrops, boxes: dict[int, Box], score: float = 0.9, at_ns: int = 0) -> None:
    picture, ids = Picture.from_rgb(half_and_half()), np.array(list(boxes), np.int64)
    crops.look(picture, at_ns, ids, boxes_array(list(boxes.values())), np.full(len(boxes), score, np.float32))


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        pytest.param((0, 0, 100, 50), (50, 100), id="smaller than a crop: as it is"),
        pytest.param((0, 0, 400, 600), (192, 128), id="larger: scaled down"),
        pytest.param((0, 0, 800, 600), (144, 192), id="the whole picture"),
        pytest.param((790, 590, 900, 700), (10, 10), id="partly beside the picture"),
        pytest.param((10, 10, 10.4, 10.4), (1, 1), id="less than a pixel"),
    ],
)
@pytest.mark.parametrize("planar", [False, True])
def test_how_large_a_crop_is(box: Box, shape: tuple[int, int], planar: bool) -> None:
    picture = Picture.from_rgb(half_and_half())
    if planar:
        grey = np.full((600, 800), 90, np.uint8)
        picture = Picture((grey, grey[::2, ::2], grey[::2, ::2]), 800, 600)
    pixels = cv2.imdecode(np.frombuffer(cut_jpeg(picture, box), np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    assert np.abs(np.array(pixels.shape[:2]) - shape).max() <= (2 if planar else 1)
    assert max(pixels.shape) <= SIDE


def test_a_crop_shows_what_is_in_the_box_in_its_colours() -> None:
    jpeg = cut_jpeg(Picture.from_rgb(half_and_half()), (0, 0, 800, 600))
    pixels = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    np.testing.assert_allclose(pixels[72, 20], (0, 0, 200), atol=12)  # blue, green, red
    np.testing.assert_allclose(pixels[72, 170], (200, 0, 0), atol=12)


def test_only_a_clearly_better_view_replaces_one() -> None:
    crops = BestCrops()
    look(crops, {1: (0, 0, 100, 100)})
    look(crops, {1: (0, 0, 110, 110)}, at_ns=10**9)
    first = crops.of(1)
    look(crops, {1: (0, 0, 140, 140)}, at_ns=2 * 10**9)
    second = crops.of(1)
    assert first is not None and second is not None
    assert (first.at_ns, second.at_ns) == (0, 2_000_000_000)
    assert second.box == (0.0, 0.0, 140.0, 140.0)


def test_a_crowd_has_its_crops_over_some_frames() -> None:
    crops = BestCrops()
    crowd: dict[int, Box] = {track: (10.0 * track, 0, 10.0 * track + 50, 80) for track in range(1, 11)}
    taken = []
    for _ in range(3):
        look(crops, crowd)
        taken.append(sum(crops.of(track) is not None for track in crowd))
    assert taken == [AT_ONCE, 2 * AT_ONCE, 10]


def test_what_ended_is_forgotten() -> None:
    crops = BestCrops()
    look(crops, {1: (0, 0, 100, 100)})
    crops.forget(1)
    crops.forget(2)
    assert crops.of(1) is None


@pytest.mark.parametrize(
    ("box", "shown"),
    [
        pytest.param((200, 100, 300, 200), (160.0, 60.0, 340.0, 240.0), id="in the middle"),
        pytest.param((0, 10, 100, 110), (0.0, 0.0, 140.0, 150.0), id="at the edge: what there is"),
    ],
)
def test_more_is_shown_around_a_box_where_that_is_wanted(box: Box, shown: Box) -> None:
    crops = BestCrops(0.4)
    look(crops, {1: box})
    crop = crops.of(1)
    assert crop is not None and crop.box == shown
