import numpy as np
import pytest

from pipeline.tracking.kalman import BoxFilters

ALL = np.array([True])


def column(*box: float) -> np.ndarray:
    return np.array(box, np.float64)[:, None]


def follow(filters: BoxFilters, boxes: list[np.ndarray], seconds: float) -> None:
    for box in boxes:
        filters.correct(np.array([seconds]), seconds, box, ALL)


def steady(count: int, per_frame: float) -> list[np.ndarray]:
    return [column(100 + per_frame * i, 100, 140 + per_frame * i, 200) for i in range(count)]


def test_a_new_filter_is_at_rest() -> None:
    filters = BoxFilters()
    filters.append(column(100, 100, 140, 200))
    np.testing.assert_allclose(filters.predicted(np.array([3.0]), 0.04), column(100, 100, 140, 200))


def test_a_steady_thing_is_foretold() -> None:
    filters, boxes = BoxFilters(), steady(40, 4.0)
    filters.append(boxes[0])
    follow(filters, boxes[1:-1], 0.04)
    np.testing.assert_allclose(filters.predicted(np.array([0.04]), 0.04), boxes[-1], atol=0.2)


def test_what_was_not_seen_stays_as_it_was() -> None:
    filters = BoxFilters()
    filters.append(np.concatenate([column(0, 0, 10, 10), column(50, 0, 60, 10)], axis=1))
    moved = np.concatenate([column(2, 0, 12, 10), column(0, 0, 1, 1)], axis=1)
    filters.correct(np.array([0.04, 0.04]), 0.04, moved, np.array([True, False]))
    assert filters.boxes[0, 0] > 0.0
    np.testing.assert_array_equal(filters.boxes[:, 1], [50, 0, 60, 10])


@pytest.mark.parametrize("seconds", [0.02, 0.1, 1.0])
def test_one_long_step_is_as_uncertain_as_many_short_ones(seconds: float) -> None:
    """The white acceleration is that of real time, whatever the number of frames in it."""
    once, often = BoxFilters(), BoxFilters()
    for filters in (once, often):
        filters.append(column(100, 100, 140, 200))
    target = column(110, 100, 150, 200)
    once.correct(np.array([seconds]), seconds, target, ALL)
    none = np.array([False])
    often.correct(np.array([seconds / 2]), seconds / 2, target, none)
    often.correct(np.array([seconds]), seconds / 2, target, ALL)
    np.testing.assert_allclose(once.boxes, often.boxes)


def test_after_a_gap_the_speed_is_that_of_the_straight_line() -> None:
    filters = BoxFilters()
    filters.append(column(100, 100, 140, 200))
    follow(filters, steady(20, 0.0), 0.04)
    filters.correct(np.array([1.0]), 0.04, column(200, 100, 240, 200), ALL)
    ahead = filters.predicted(np.array([0.1]), 0.04)[0, 0] - filters.boxes[0, 0]
    assert 8.0 < ahead < 13.0  # 100 pixels a second


def test_sizes_change_over_one_step_at_most() -> None:
    filters = BoxFilters()
    filters.append(column(100, 100, 200, 200))
    follow(filters, [column(100 + i, 100 + i, 200 - i, 200 - i) for i in range(1, 20)], 0.04)
    late, soon = (filters.predicted(np.array([seconds]), 0.04) for seconds in (2.0, 0.04))
    np.testing.assert_allclose(late[2] - late[0], soon[2] - soon[0])


@pytest.mark.parametrize(
    ("box", "x_per_frame", "leaving"),
    [
        pytest.param((0, 100, 40, 200), (0, -4), True, id="cut off at the left, its right edge goes left"),
        pytest.param((0, 100, 40, 200), (0, 4), False, id="cut off at the left, coming in"),
        pytest.param((600, 100, 640, 200), (4, 0), True, id="cut off at the right, its left edge goes right"),
        pytest.param((600, 100, 640, 200), (-4, 0), False, id="cut off at the right, coming in"),
        pytest.param((300, 100, 340, 200), (4, 4), False, id="in the middle"),
    ],
)
def test_what_goes_out_over_an_edge_is_leaving(
    box: tuple[int, ...], x_per_frame: tuple[int, int], leaving: bool
) -> None:
    left, top, right, bottom = box
    filters, (a, b) = BoxFilters(), x_per_frame
    filters.append(column(left - 6 * a, top, right - 6 * b, bottom))
    follow(filters, [column(left - k * a, top, right - k * b, bottom) for k in range(5, -1, -1)], 0.04)
    assert filters.leaving(np.array([0]), np.array([[640.0], [360.0]])).tolist() == [leaving]


def test_a_zoom_and_a_turn_take_place_and_speed_along() -> None:
    filters = BoxFilters()
    filters.append(column(100, 100, 120, 140))
    filters.move(np.array([[0.0, -2.0, 400.0], [2.0, 0.0, 0.0]]))  # a quarter turn, twice as large
    left, top, right, bottom = filters.boxes[:, 0]
    assert [(left + right) / 2, (top + bottom) / 2] == pytest.approx([160.0, 220.0])
    assert [right - left, bottom - top] == pytest.approx([40.0, 80.0])
