import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from engines.boxes import Letterbox, Letterboxes, iou_matrix, letterbox

sides = st.integers(1, 8000)
targets = st.integers(1, 40).map(lambda n: 32 * n)


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@given(st.tuples(sides, sides), st.tuples(targets, targets))
def test_a_letterboxed_picture_is_even_fills_one_side_and_is_centred(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    box = letterbox(source, target)
    assert all(value % 2 == 0 for value in (*box.scaled, *box.pad))
    assert min(box.scaled) >= 2
    assert any(scaled == side for scaled, side in zip(box.scaled, target, strict=True))
    for pad, scaled, side in zip(box.pad, box.scaled, target, strict=True):
        rest = side - scaled - pad
        assert 0 <= rest - pad <= 2


@given(st.tuples(sides, sides), st.tuples(targets, targets))
def test_a_letterboxed_picture_keeps_its_shape_to_within_a_pixel(
    source: tuple[int, int], target: tuple[int, int]
) -> None:
    box = letterbox(source, target)
    scale = min(t / s for t, s in zip(target, source, strict=True))
    for scaled, side in zip(box.scaled, source, strict=True):
        assert scaled == 2 or abs(scaled - side * scale) <= 1.0 + 1e-9


@given(
    st.tuples(sides, sides),
    st.tuples(targets, targets),
    hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 1, width=32)),
)
def test_points_come_back_from_the_input(source: tuple[int, int], target: tuple[int, int], shares: np.ndarray) -> None:
    box = letterbox(source, target)
    points = shares * np.array([*source, *source], np.float32)
    back = Letterboxes.of((box,)).to_source(box.to_input(points), np.zeros(3, np.int64))
    # The padding costs float32 digits where a long side was made very short.
    tolerance = 2e-6 * max(target) * max(s / c for s, c in zip(source, box.scaled, strict=True)) + 1e-6
    assert np.abs(back - points).max() <= tolerance


def test_the_corners_of_the_picture_are_the_corners_of_the_scaled_area() -> None:
    box = letterbox((1921, 1079), (640, 384))
    corners = np.array([[0, 0, 1921, 1079]], np.float32)
    x, y = box.pad
    assert box.to_input(corners).tolist() == [[x, y, x + box.scaled[0], y + box.scaled[1]]]


@pytest.mark.parametrize(
    ("case", "source", "target", "scaled", "pad"),
    [
        ("the same shape, scaled down", (1280, 768), (640, 384), (640, 384), (0, 0)),
        ("the very size", (640, 384), (640, 384), (640, 384), (0, 0)),
        ("wider than the input: bars above and below", (1920, 1080), (640, 384), (640, 360), (0, 12)),
        ("a portrait picture: bars left and right", (1080, 1920), (640, 384), (216, 384), (212, 0)),
        ("smaller than the input: scaled up", (160, 96), (640, 384), (640, 384), (0, 0)),
        ("one pixel", (1, 1), (320, 320), (320, 320), (0, 0)),
        ("a line one pixel wide keeps two pixels", (1, 5000), (320, 320), (2, 320), (158, 0)),
        ("an odd input: the last row and column stay empty", (3, 3), (5, 7), (4, 4), (0, 0)),
    ],
)
def test_letterbox(
    case: str, source: tuple[int, int], target: tuple[int, int], scaled: tuple[int, int], pad: tuple[int, int]
) -> None:
    assert letterbox(source, target) == Letterbox(source, target, scaled, pad), case


@pytest.mark.parametrize(("source", "target"), [((0, 10), (320, 320)), ((10, -1), (320, 320)), ((10, 10), (320, 1))])
def test_sizes_without_pixels_are_refused(source: tuple[int, int], target: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        letterbox(source, target)


def test_landmarks_and_no_boxes_at_all_keep_their_shapes() -> None:
    places = Letterboxes.of((letterbox((1920, 1080), (640, 384)), letterbox((640, 384), (640, 384))))
    landmarks = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    mapped = places.to_source(landmarks, np.array([0, 1]))
    np.testing.assert_allclose(mapped[0], landmarks[0] * 3 - [0, 36], atol=1e-3)
    assert mapped[1].tolist() == landmarks[1].tolist()
    assert places.to_source(boxes(), np.zeros(0, np.int64)).shape == (0, 4)
    assert letterbox((1920, 1080), (640, 384)).to_input(boxes()).dtype == np.float32


@pytest.mark.parametrize(
    ("case", "a", "b", "iou"),
    [
        ("the same box", (0, 0, 4, 4), (0, 0, 4, 4), 1.0),
        ("half of the other", (0, 0, 4, 4), (0, 0, 4, 2), 0.5),
        ("a third in common", (0, 0, 2, 2), (1, 0, 3, 2), 1 / 3),
        ("touching at an edge", (0, 0, 2, 2), (2, 0, 4, 2), 0.0),
        ("apart on one axis alone", (0, 0, 2, 2), (0, 5, 2, 7), 0.0),
        ("apart on both axes", (0, 0, 2, 2), (5, 5, 7, 7), 0.0),
        ("no width", (1, 0, 1, 2), (0, 0, 2, 2), 0.0),
        ("no area, compared with itself", (1, 1, 1, 1), (1, 1, 1, 1), 0.0),
        ("corners swapped", (2, 2, 0, 0), (0, 0, 2, 2), 0.0),
        ("not a number", (float("nan"), 0, 2, 2), (0, 0, 2, 2), 0.0),
        ("huge", (0, 0, 1e19, 1e19), (0, 0, 1e19, 1e19), 1.0),
    ],
)
def test_iou(case: str, a: tuple[float, ...], b: tuple[float, ...], iou: float) -> None:
    assert iou_matrix(boxes(a), boxes(b))[0, 0] == pytest.approx(iou), case
    assert iou_matrix(boxes(b), boxes(a))[0, 0] == pytest.approx(iou), case


def test_iou_of_no_boxes_has_no_rows() -> None:
    assert iou_matrix(boxes(), boxes((0, 0, 1, 1))).shape == (0, 1)
    assert iou_matrix(boxes((0, 0, 1, 1)), boxes()).shape == (1, 0)


@given(hnp.arrays(np.float32, (6, 4), elements=st.floats(-1e6, 1e6, width=32)))
def test_iou_is_a_symmetric_share(rows: np.ndarray) -> None:
    ious = iou_matrix(rows, rows)
    assert ((ious >= 0) & (ious <= 1 + 1e-6)).all()
    np.testing.assert_allclose(ious, ious.T)
    np.testing.assert_allclose(np.diag(ious), (rows[:, :2] < rows[:, 2:]).all(axis=1).astype(np.float32), rtol=1e-5)


def test_clipping_keeps_what_is_inside_and_empties_what_is_outside() -> None:
    given_boxes = boxes((-5, -5, 5, 5), (1, 1, 9, 7), (90, 90, 200, 300), (200, 10, 210, 20))
    places = Letterboxes.of((letterbox((100, 80), (64, 64)), letterbox((300, 300), (64, 64))))
    clipped = places.clip(given_boxes, np.array([0, 0, 0, 1]))
    assert clipped.tolist() == [[0, 0, 5, 5], [1, 1, 9, 7], [90, 80, 100, 80], [200, 10, 210, 20]]
    assert given_boxes[0, 0] == -5, "the given boxes are not changed"
