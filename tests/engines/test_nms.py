import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.boxes import iou_matrix
from engines.nms import nms


def reference(boxes: np.ndarray, scores: np.ndarray, iou: float, labels: np.ndarray | None, top: int) -> list[int]:
    """Greedy suppression, one pair at a time."""
    order = [int(row) for row in np.argsort(-scores, kind="stable") if (boxes[row, 2:] > boxes[row, :2]).all()]
    ious = iou_matrix(boxes, boxes)
    kept: list[int] = []
    for row in order[:top]:
        rivals = [other for other in kept if labels is None or labels[other] == labels[row]]
        if all(ious[row, other] <= iou for other in rivals):
            kept.append(row)
    return kept


@st.composite
def detections(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes on a coarse grid, so that many overlap, coincide, touch or are empty, with few different scores."""
    rows = draw(
        st.lists(
            st.tuples(*[st.integers(-4, 4)] * 2, *[st.integers(0, 6)] * 2, st.integers(0, 5), st.integers(0, 2)),
            max_size=25,
        )
    )
    table = np.array(rows, np.float32).reshape(-1, 6)
    boxes = np.concatenate([table[:, :2], table[:, :2] + table[:, 2:4]], axis=1)
    return boxes, table[:, 4] / 5, table[:, 5].astype(np.int32)


# These overlaps cannot be the quotient of two of the grid's areas, so no rounding decides.
@given(detections(), st.sampled_from([0.1234567, 0.4567891, 0.7071067]), st.booleans(), st.sampled_from([300, 7, 1]))
def test_it_keeps_what_the_plain_algorithm_keeps(
    found: tuple[np.ndarray, np.ndarray, np.ndarray], iou: float, by_class: bool, top: int
) -> None:
    boxes, scores, labels = found
    classes = labels if by_class else None
    assert nms(boxes, scores, iou, classes, top).tolist() == reference(boxes, scores, iou, classes, top)


PAIR = np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32)


@pytest.mark.parametrize(
    ("case", "boxes", "scores", "labels", "kept"),
    [
        ("nothing", np.zeros((0, 4), np.float32), [], None, []),
        ("one", PAIR[:1], [0.5], None, [0]),
        ("the better of two wins, wherever it stands", PAIR, [0.2, 0.9], None, [1]),
        ("of equal scores the earlier row wins", PAIR, [0.5, 0.5], None, [0]),
        ("scores of zero count", PAIR[:1], [0.0], None, [0]),
        ("negative scores count", PAIR, [-2.0, -1.0], None, [1]),
        ("two classes at one place both stay", PAIR, [0.2, 0.9], [3, 7], [1, 0]),
        ("identical boxes", PAIR[[0, 0, 0]], [0.1, 0.3, 0.2], None, [1]),
        ("an empty box is never kept", np.array([[5, 5, 5, 9]], np.float32), [0.9], None, []),
        ("a box that is not a number is never kept", np.full((1, 4), np.nan, np.float32), [0.9], None, []),
    ],
)
def test_edges(case: str, boxes: np.ndarray, scores: list[float], labels: list[int] | None, kept: list[int]) -> None:
    classes = None if labels is None else np.array(labels, np.int64)
    assert nms(boxes, np.array(scores, np.float32), 0.5, classes).tolist() == kept, case


def test_classes_stay_apart_far_from_the_origin() -> None:
    boxes = np.array([[-5000, -5000, -4990, -4990], [-5000, -5000, -4990, -4990], [9000, 9000, 9010, 9010]], np.float32)
    assert nms(boxes, np.array([0.9, 0.8, 0.7], np.float32), 0.5, np.array([0, 79, 0])).tolist() == [0, 1, 2]


def test_only_the_best_are_looked_at() -> None:
    boxes = np.array([[20 * n, 0, 20 * n + 10, 10] for n in range(5)], np.float32)
    assert nms(boxes, np.linspace(0.1, 0.9, 5, dtype=np.float32), 0.5, top=2).tolist() == [4, 3]
