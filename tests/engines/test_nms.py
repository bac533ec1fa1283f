import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from engines.boxes import iou_matrix
from engines.nms import MODEL, nms, soft_nms

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes, scores, labels

# Overlaps that cannot be the quotient of two of the grid's areas, so that no rounding decides.
IOUS = st.sampled_from([0.1234567, 0.4567891, 0.7071067])
HALF = 0.5


def usable(boxes: np.ndarray, scores: np.ndarray) -> list[int]:
    """Rows that may be kept, best first."""
    order = np.argsort(-scores, kind="stable")
    return [int(row) for row in order if (boxes[row, 2:] > boxes[row, :2]).all()]


def reference(boxes: np.ndarray, scores: np.ndarray, iou: float, labels: np.ndarray | None) -> list[int]:
    """Greedy suppression, one pair at a time."""
    ious = iou_matrix(boxes, boxes)
    kept: list[int] = []
    for row in usable(boxes, scores):
        rivals = [other for other in kept if labels is None or labels[other] == labels[row]]
        if all(ious[row, other] <= iou for other in rivals):
            kept.append(row)
    return kept


def soft_reference(
    boxes: np.ndarray, scores: np.ndarray, least: float, labels: np.ndarray | None
) -> list[tuple[int, float]]:
    """Soft suppression as the paper writes it: the best of what is left goes, and the others fade."""
    ious = iou_matrix(boxes, boxes).astype(np.float64)
    left = {row: float(scores[row]) for row in usable(boxes, scores)}
    taken: list[tuple[int, float]] = []
    while left:
        best = max(left, key=left.__getitem__)  # the first of equal ones
        taken.append((best, left.pop(best)))
        for row in left:
            overlap = ious[best, row]
            if labels is not None and labels[best] != labels[row]:
                continue
            left[row] *= np.exp(-(overlap**2) / 0.5)
    return [(row, score) for row, score in taken if score >= least]


@st.composite
def grids(draw: st.DrawFn) -> Found:
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


@st.composite
def crowds(draw: st.DrawFn) -> Found:
    """As a network gives them: a few things, each seen many times, at any scale and far from the origin."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    things, each = draw(st.integers(1, 12)), draw(st.integers(1, 15))
    corners = rng.uniform(0, 100, (things, 2)).repeat(each, axis=0) + rng.normal(0, 3, (things * each, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(10, 40, corners.shape)], axis=1)
    boxes = (boxes * draw(st.sampled_from([1e-3, 1.0, 1e6, 1e14])) + draw(st.sampled_from([0.0, -500.0]))).astype(
        np.float32
    )
    return boxes, rng.random(len(boxes)).astype(np.float32), rng.integers(0, 5, len(boxes)).astype(np.int32)


@given(grids(), IOUS, st.booleans())
def test_it_keeps_what_the_plain_algorithm_keeps(found: Found, iou: float, by_class: bool) -> None:
    boxes, scores, labels = found
    classes = labels if by_class else None
    assert nms(boxes, scores, iou, classes).tolist() == reference(boxes, scores, iou, classes)


@given(crowds(), st.booleans(), st.sampled_from([0.0, 0.2, 0.5, 0.9]))
def test_it_keeps_what_the_plain_algorithm_keeps_of_a_crowd(found: Found, by_class: bool, iou: float) -> None:
    boxes, scores, labels = found
    assume(iou == 0.0 or np.abs(iou_matrix(boxes, boxes) - iou).min() > 1e-5)  # or rounding decides
    classes = labels if by_class else None
    assert nms(boxes, scores, iou, classes).tolist() == reference(boxes, scores, iou, classes)


@given(grids(), st.booleans())
def test_soft_suppression_is_that_of_the_paper(found: Found, by_class: bool) -> None:
    boxes, scores, labels = found
    _check_soft(boxes, scores, labels if by_class else None)


@given(crowds(), st.booleans())
def test_soft_suppression_is_that_of_the_paper_in_a_crowd(found: Found, by_class: bool) -> None:
    boxes, scores, labels = found
    _check_soft(boxes, scores, labels if by_class else None)


def _check_soft(boxes: np.ndarray, scores: np.ndarray, classes: np.ndarray | None) -> None:
    least = 0.0312345
    rows, left = soft_nms(boxes, scores, least, classes)
    expected = dict(soft_reference(boxes, scores, least, classes))
    # Boxes may change places where their scores differ in rounding alone.
    assert dict(zip(rows.tolist(), left.tolist(), strict=True)) == pytest.approx(expected, abs=1e-5)
    assert (np.diff(left) <= 0).all()


PAIR = np.array([[0, 0, 10, 10], [0, 0, 10, 9]], np.float32)
HUGE = np.array([[0, 0, 1e17, 1e17], [0, 0, 1e17, 0.9e17]], np.float32)
APART = np.array([[0, 0, 10, 10], [10, 0, 20, 10]], np.float32)


@pytest.mark.parametrize(
    ("case", "boxes", "scores", "labels", "kept"),
    [
        ("nothing", np.zeros((0, 4), np.float32), [], None, []),
        ("nothing, of no class", np.zeros((0, 4), np.float32), [], [], []),
        ("one", PAIR[:1], [0.5], None, [0]),
        ("one, of a class", PAIR[:1], [0.5], [4], [0]),
        ("the better of two wins, wherever it stands", PAIR, [0.2, 0.9], None, [1]),
        ("of equal scores the earlier row wins", PAIR, [0.5, 0.5], None, [0]),
        ("boxes that touch do not overlap", APART, [0.5, 0.9], None, [1, 0]),
        ("scores of zero count", PAIR[:1], [0.0], None, [0]),
        ("negative scores count", PAIR, [-2.0, -1.0], None, [1]),
        ("two classes at one place both stay", PAIR, [0.2, 0.9], [3, 7], [1, 0]),
        ("identical boxes", PAIR[[0, 0, 0]], [0.1, 0.3, 0.2], None, [1]),
        ("an empty box is never kept", np.array([[5, 5, 5, 9]], np.float32), [0.9], None, []),
        ("corners swapped are no box", np.array([[9, 9, 5, 5]], np.float32), [0.9], None, []),
        ("a box that is not a number is never kept", np.full((1, 4), np.nan, np.float32), [0.9], None, []),
        ("half a number is none", np.array([[0, 0, np.nan, 9]], np.float32), [0.9], None, []),
        ("a box without end is never kept", np.array([[0, 0, np.inf, 9]], np.float32), [0.9], None, []),
        ("huge boxes overlap as others do", HUGE, [0.2, 0.9], None, [1]),
        ("beyond all reason is no box", np.array([[0, 0, 1e19, 1e19]], np.float32), [0.9], None, []),
        ("a score that is not a number is none", PAIR, [np.nan, 0.1], None, [1]),
        ("nor is one without end", PAIR, [np.inf, 0.1], [0, 0], [1]),
    ],
)
def test_edges(case: str, boxes: np.ndarray, scores: list[float], labels: list[int] | None, kept: list[int]) -> None:
    classes = None if labels is None else np.array(labels, np.int64)
    found = np.array(scores, np.float32)
    assert nms(boxes, found, HALF, classes).tolist() == kept, case
    if (found >= 0).all():  # soft suppression leaves those first that greedy suppression leaves
        rows, left = soft_nms(boxes, found, -1.0, classes)
        assert rows[:1].tolist() == kept[:1], case
        assert left[:1].tolist() == found[kept[:1]].tolist(), case


def test_classes_stay_apart_far_from_the_origin() -> None:
    boxes = np.array([[-5000, -5000, -4990, -4990], [-5000, -5000, -4990, -4990], [9000, 9000, 9010, 9010]], np.float32)
    assert nms(boxes, np.array([0.9, 0.8, 0.7], np.float32), HALF, np.array([0, 79, 0])).tolist() == [0, 1, 2]


def test_a_box_that_half_covers_another_fades_it() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 5]], np.float32)
    scores = np.array([0.9, 0.8], np.float32)
    assert soft_nms(boxes, scores, 0.1)[1].tolist() == pytest.approx([0.9, 0.8 * np.exp(-0.5)])
    assert soft_nms(boxes, scores, 0.5)[0].tolist() == [0], "what fades below `least` is given up"


def test_the_graph_is_what_onnx_makes_of_one_node() -> None:
    node = helper.make_node("NonMaxSuppression", ["boxes", "scores", "most", "iou", "least"], ["kept"])
    inputs = [
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [None, None, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [None, None, None]),
        helper.make_tensor_value_info("iou", TensorProto.FLOAT, [1]),
    ]
    kept = helper.make_tensor_value_info("kept", TensorProto.INT64, [None, 3])
    constants = [
        helper.make_tensor("most", TensorProto.INT64, [1], [2**31 - 1]),
        helper.make_tensor("least", TensorProto.FLOAT, [1], [-3e38]),
    ]
    graph = helper.make_graph([node], "nms", inputs, [kept], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    assert model.SerializeToString() == MODEL.read_bytes()
