import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from engines.boxes import iou_matrix
from pipeline.tracking.association import Blocks, best, by_coordinate, moved, overlapping, touching, touching_within

corners = st.lists(st.tuples(*[st.integers(0, 20)] * 4), max_size=7).map(
    lambda rows: np.array([(x, y, x + w + 1, y + h + 1) for x, y, w, h in rows], np.float32).reshape(-1, 4)
)


@given(corners, corners)
def test_pairs_are_those_of_the_whole_matrix(a: np.ndarray, b: np.ndarray) -> None:
    pairs, matrix = overlapping(by_coordinate(a), by_coordinate(b)), iou_matrix(a, b)
    assert {(int(i), int(j)) for i, j in zip(pairs.tracks, pairs.detections, strict=True)} == {
        (int(i), int(j)) for i, j in zip(*np.nonzero(matrix), strict=True)
    }
    np.testing.assert_allclose(pairs.ious, matrix[pairs.tracks, pairs.detections], rtol=1e-6)


@given(arrays(np.int64, (4, 4), elements=st.integers(0, 9)))
def test_the_best_pairs_are_worth_as_much_as_any_choice(worth: np.ndarray) -> None:
    rows, columns = np.nonzero(worth)
    chosen = best(rows, columns, worth[rows, columns].astype(float), worth.shape)
    assert len(set(rows[chosen].tolist())) == len(set(columns[chosen].tolist())) == len(chosen)
    possible = max(sum(worth[i, order[i]] for i in range(4)) for order in itertools.permutations(range(4)))
    assert worth[rows[chosen], columns[chosen]].sum() == possible


def test_boxes_that_touch_at_an_edge_are_no_pair() -> None:
    assert not len(overlapping(by_coordinate(np.float32([[0, 0, 2, 2]])), by_coordinate(np.float32([[2, 0, 4, 2]]))))


def test_moved_boxes_shift_and_grow() -> None:
    after = moved(by_coordinate(np.float32([[0, 0, 10, 20]])), np.array([[2.0, 0.0, 5.0], [0.0, 2.0, 0.0]]))
    assert after[:, 0] == pytest.approx([5.0, 0.0, 25.0, 40.0])


@given(st.lists(st.tuples(corners, corners), min_size=1, max_size=4))
def test_streams_together_touch_as_each_alone(streams: list[tuple[np.ndarray, np.ndarray]]) -> None:
    counts = np.array([[len(a), len(b)] for a, b in streams]).T
    blocks = [Blocks.of(np.repeat(np.arange(len(streams)), each), len(streams)) for each in counts]
    together = [by_coordinate(np.concatenate(each)) for each in zip(*streams, strict=True)]
    found = {(int(i), int(j)) for i, j in zip(*touching_within(*together, *blocks), strict=True)}
    alone, first = set(), np.zeros(2, np.int64)
    for (a, b), count in zip(streams, counts.T, strict=True):
        rows, columns = touching(by_coordinate(a), by_coordinate(b))
        alone |= {(int(i), int(j)) for i, j in zip(rows + first[0], columns + first[1], strict=True)}
        first += count
    assert found == alone
