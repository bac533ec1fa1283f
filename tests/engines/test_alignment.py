import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.alignment import TEMPLATE, align, region, similarity

angles = st.floats(-math.pi, math.pi)
scales = st.floats(0.05, 20.0)
shifts = st.floats(-2000, 2000)


def placed(angle: float, scale: float, x: float, y: float) -> np.ndarray:
    """The template turned, scaled and moved: landmarks of a face in a picture."""
    turn = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return (TEMPLATE @ turn.T + [x, y]).astype(np.float32)


def matrix_of(landmarks: np.ndarray) -> np.ndarray:
    """(2, 3) from picture coordinates to aligned ones, as ``cv2.warpAffine`` takes it."""
    turn, shift = similarity(landmarks)
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ matrix[:, :2].T + matrix[:, 2]


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The general solution by singular values, equations 40 to 42 of the paper."""
    source, target = source.astype(np.float64), target.astype(np.float64)
    a, b = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(b.T @ a / len(a))
    signs = np.array([1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))])
    turn = (u * signs) @ vt
    scale = (d * signs).sum() / a.var(0).sum()
    return np.column_stack([scale * turn, target.mean(0) - scale * turn @ source.mean(0)])


@given(angles, scales, shifts, shifts)
def test_it_finds_the_transform_that_was_applied(angle: float, scale: float, x: float, y: float) -> None:
    landmarks = placed(angle, scale, x, y)
    matrix = matrix_of(landmarks)
    assert np.abs(apply(matrix, landmarks.astype(np.float64)) - TEMPLATE).max() < 2e-3 * max(1, 1 / scale)
    assert math.hypot(matrix[0, 0], matrix[1, 0]) == pytest.approx(1 / scale, rel=1e-3)


@given(angles, scales, st.integers(0, 2**32 - 1))
def test_noisy_landmarks_give_the_least_squares_solution(angle: float, scale: float, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 4 * scale, (5, 2)).astype(np.float32)
    landmarks = placed(angle, scale, 300, 200) + noise
    np.testing.assert_allclose(matrix_of(landmarks), umeyama(landmarks, TEMPLATE), rtol=1e-6, atol=1e-6)


def test_a_mirrored_face_is_turned_but_never_mirrored_back() -> None:
    mirrored = TEMPLATE * [-1, 1]
    matrix = matrix_of(mirrored.astype(np.float32))
    assert np.linalg.det(matrix[:, :2]) > 0
    np.testing.assert_allclose(matrix, umeyama(mirrored, TEMPLATE), atol=1e-4)


@pytest.mark.parametrize(
    ("case", "landmarks", "sentence"),
    [
        ("all on one spot", np.full((5, 2), 7.0, np.float32), "one spot"),
        ("not a number", np.where(np.eye(5, 2) > 0, np.nan, TEMPLATE).astype(np.float32), "finite"),
        ("endless", np.where(np.eye(5, 2) > 0, np.inf, TEMPLATE).astype(np.float32), "finite"),
        ("four points", TEMPLATE[:4], "shape"),
        ("two points of a face exchanged crosswise", TEMPLATE[[4, 1, 2, 3, 0]], "arranged like a face"),
    ],
)
def test_landmarks_that_fit_no_face_are_refused(case: str, landmarks: np.ndarray, sentence: str) -> None:
    for function in (similarity, region, lambda points: align(np.zeros((9, 9, 3), np.uint8), points)):
        with pytest.raises(ValueError, match=sentence):
            function(landmarks)


@pytest.mark.parametrize("width", [1.0, 0.4, 0.02])
def test_a_face_seen_from_the_side_is_aligned(width: float) -> None:
    narrow = (TEMPLATE * [width, 1] + [20, 10]).astype(np.float32)
    assert align(np.zeros((150, 150, 3), np.uint8), narrow).shape == (112, 112, 3)


def smooth(height: int, width: int) -> np.ndarray:
    """Waves of 60 pixels and more in three colours: they survive turning and interpolation."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    waves = [np.sin(x / 20) + np.cos(y / 17), np.sin((x + y) / 30), np.cos((x - 2 * y) / 40)]
    return np.stack([60 * wave + 127 for wave in waves], axis=-1).clip(0, 255).astype(np.uint8)


def test_a_face_that_is_aligned_already_comes_back_as_it_is() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (112, 112, 3), np.uint8)
    np.testing.assert_array_equal(align(picture, TEMPLATE), picture)


@pytest.mark.parametrize("angle", [0.0, 0.4, -1.2, math.pi])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.6])
def test_each_pixel_is_the_one_that_the_transform_points_at(angle: float, scale: float) -> None:
    picture = smooth(700, 900)
    landmarks = placed(angle, scale, 450 - 56 * scale, 350 - 20 * scale)
    face = align(picture, landmarks)
    inverse = cv2.invertAffineTransform(matrix_of(landmarks))
    for x, y in [(5, 5), (56, 56), (100, 20), (30, 105)]:
        column, row = np.rint(apply(inverse, np.array([x, y]))).astype(int)
        if 0 <= row < 700 and 0 <= column < 900:
            assert np.abs(face[y, x].astype(int) - picture[row, column]).max() <= 14


def test_a_large_face_is_averaged_and_does_not_alias() -> None:
    checks = (np.indices((1200, 1200)).sum(axis=0) % 2 * 255).astype(np.uint8)
    face = align(np.repeat(checks[..., None], 3, axis=2), placed(0.0, 10.0, 20, 20))
    assert face.min() > 100
    assert face.max() < 155


def test_shrinking_does_not_shift_the_face() -> None:
    picture = np.zeros((1300, 1300, 3), np.uint8)
    scale, offset = 10.0, 40.0
    landmarks = placed(0.0, scale, offset, offset)
    for x, y in landmarks:
        cv2.circle(picture, (round(float(x)), round(float(y))), 20, (255, 255, 255), -1)
    face = align(picture, landmarks)[..., 0].astype(np.float64)
    for x, y in TEMPLATE:
        column, row = round(float(x)), round(float(y))
        patch = face[row - 5 : row + 6, column - 5 : column + 6]
        rows, columns = np.mgrid[row - 5 : row + 6, column - 5 : column + 6]
        assert abs((patch * columns).sum() / patch.sum() - x) < 0.1
        assert abs((patch * rows).sum() / patch.sum() - y) < 0.1


@pytest.mark.parametrize("scale", [0.2, 1.0, 1.9, 5.3])
@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_the_region_is_all_that_is_needed(angle: float, scale: float) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (800, 1000, 3), np.uint8)
    landmarks = placed(angle, scale, 350, 40)
    x0, y0, x1, y1 = region(landmarks)
    left, top = max(0, math.floor(x0)), max(0, math.floor(y0))
    crop = picture[top : math.ceil(y1), left : math.ceil(x1)]
    inside = align(crop, landmarks - np.array([left, top], np.float32))
    difference = np.abs(inside.astype(int) - align(picture, landmarks))
    assert difference.max() <= 2  # float32 landmarks round differently near the origin


def test_the_region_of_an_upright_face_is_the_square_with_its_margin() -> None:
    assert region(TEMPLATE) == pytest.approx((-2, -2, 114, 114), abs=1e-3)


def test_over_the_edge_of_the_picture_the_edge_is_repeated() -> None:
    picture = np.full((112, 112, 3), 90, np.uint8)
    picture[:, 0] = 200
    face = align(picture, TEMPLATE - np.array([50, 0], np.float32))
    assert (face[:, :50] == 200).all()
    assert (face[:, 52:] == 90).all()


def test_a_face_outside_the_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap the picture of 50x40"):
        align(np.zeros((40, 50, 3), np.uint8), TEMPLATE + np.array([500, 0], np.float32))


def test_a_face_far_larger_than_its_picture_still_gives_a_crop() -> None:
    assert align(np.full((4, 3, 3), 8, np.uint8), placed(0.0, 50.0, -2000, -2000)).tolist() == [[[8] * 3] * 112] * 112
