import cv2
import numpy as np
import pytest

from pipeline.frames.picture import Picture
from pipeline.tracking.camera_motion import WIDTH, camera_motion, in_source, small_luma


def wall(height: int = 135, width: int = WIDTH) -> np.ndarray:
    blocks = np.random.default_rng(5).integers(0, 255, (height // 9 + 1, width // 9 + 1), np.uint8)
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.mark.parametrize(
    ("angle", "zoom", "shift"), [(0.0, 1.0, (7.0, -4.0)), (3.0, 1.0, (0.0, 0.0)), (0.0, 1.05, (2.0, 1.0))]
)
def test_shift_turn_and_zoom_are_found(angle: float, zoom: float, shift: tuple[float, float]) -> None:
    picture = wall()
    true = cv2.getRotationMatrix2D((120, 67), angle, zoom)
    true[:, 2] += shift
    after = cv2.warpAffine(picture, true, (picture.shape[1], picture.shape[0]), borderMode=cv2.BORDER_REFLECT)
    found = camera_motion(picture, after)
    assert found is not None
    for point in ([60, 40, 1], [180, 90, 1]):
        np.testing.assert_allclose(found @ point, true @ point, atol=0.5)


def test_a_thing_that_moves_does_not_take_the_camera_along() -> None:
    before = wall()
    after = before.copy()
    after[40:90, 90:150] = before[40:90, 80:140]
    found = camera_motion(before, after)
    assert found is not None
    np.testing.assert_allclose(found, [[1, 0, 0], [0, 1, 0]], atol=0.1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(np.zeros((135, 240), np.uint8), np.zeros((135, 240), np.uint8), id="in the dark"),
        pytest.param(wall(), wall()[:, ::-1].copy(), id="after a cut"),
        pytest.param(wall(), wall(100), id="the size changed"),
    ],
)
def test_where_nothing_can_be_followed_nothing_is_said(before: np.ndarray, after: np.ndarray) -> None:
    assert camera_motion(before, after) is None


def test_a_small_luma_is_small_and_no_larger_than_the_picture() -> None:
    assert small_luma(Picture.from_rgb(np.zeros((1080, 1920, 3), np.uint8))).shape == (135, 240)
    planes = (np.full((60, 80), 9, np.uint8), np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint8))
    luma = small_luma(Picture(planes, 80, 60))
    assert luma.shape == (60, 80)
    assert (luma == 9).all()


def test_shifts_grow_with_the_picture_and_turns_do_not() -> None:
    np.testing.assert_array_equal(in_source(np.array([[1.0, 0.1, 3.0], [-0.1, 1.0, 2.0]]), 8.0)[:, 2], [24.0, 16.0])
