import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from engines.network.features import anchor_points
from engines.training.assignment import CANDIDATES, NEAR, Assignment, assign, pair_iou
from engines.training.targets import Targets

SIZE = 64
POINTS, STRIDES, _ = anchor_points(SIZE, SIZE)
ANCHORS = len(POINTS)
CLASSES = 2


def targets(
    boxes: list[list[float]], classes: list[int], ignore: list[bool] | None = None, *, only_near: bool = False
) -> Targets:
    """The labels of one picture."""
    return Targets(
        torch.tensor([boxes], dtype=torch.float32),
        torch.tensor([classes]),
        torch.tensor([ignore or [False] * len(boxes)]),
        None,
        None,
        only_near,
    )


def fresh(count: int = 1) -> tuple[Tensor, Tensor]:
    """Scores at the prior and boxes four strides wide around every anchor point, as an untrained network has them."""
    reach = 2 * STRIDES[:, None]
    boxes = torch.cat([POINTS - reach, POINTS + reach], 1)
    return torch.full((count, ANCHORS, CLASSES), 0.01), boxes[None].repeat(count, 1, 1)


def given_to(wanted: Targets) -> Assignment:
    return assign(*fresh(len(wanted.boxes)), POINTS, wanted)


def inside(box: list[float]) -> Tensor:
    (x0, y0, x1, y1), (x, y) = box, POINTS.T
    return (x > x0) & (x < x1) & (y > y0) & (y < y1)


def test_iou_of_all_pairs() -> None:
    a = torch.tensor([[[0.0, 0, 4, 4], [2, 2, 2, 2]]])
    b = torch.tensor([[[0.0, 0, 4, 4], [2, 0, 6, 4], [8, 8, 9, 9]]])
    torch.testing.assert_close(pair_iou(a, b), torch.tensor([[[1, 1 / 3, 0], [0, 0, 0]]]), atol=1e-6, rtol=0)


def test_a_box_gets_the_anchors_that_overlap_it_best() -> None:
    box = [10.0, 10, 42, 42]
    found = given_to(targets([box], [1]))
    (anchors,) = found.positive[0].nonzero(as_tuple=True)
    assert 1 <= len(anchors) <= CANDIDATES
    assert inside(box)[anchors].all()
    assert found.box[0, anchors].tolist() == [0] * len(anchors)
    _, predicted = fresh()
    overlap = pair_iou(torch.tensor([[box]]), predicted)[0, 0]
    assert overlap[anchors].max() == overlap.max(), "the best is among them"
    torch.testing.assert_close(found.quality[0].max(), overlap.max())


def test_the_better_scored_of_two_equal_overlaps_is_preferred() -> None:
    scores, boxes = fresh()
    scores[0, 27, 1] = 0.9
    boxes[0, 27] = boxes[0, 28] = torch.tensor([16.0, 16, 48, 48])
    found = assign(scores, boxes, POINTS, targets([[16.0, 16, 48, 48]], [1]))
    assert found.quality[0, 27] > found.quality[0, 28] > 0
    other = assign(scores, boxes, POINTS, targets([[16.0, 16, 48, 48]], [0]))
    assert other.quality[0, 27] == other.quality[0, 28], "only the score of the box's own class counts"


def test_an_anchor_inside_two_boxes_goes_to_the_one_it_overlaps_more() -> None:
    small, large = [24.0, 24, 40, 40], [0.0, 0, 64, 64]
    scores, boxes = fresh()
    centre = 27  # at (28, 28), stride 8
    boxes[0, centre] = torch.tensor(small)
    for order in ([small, large], [large, small]):
        found = assign(scores, boxes, POINTS, targets(order, [0, 1]))
        assert found.positive[0, centre]
        assert found.box[0, centre] == order.index(small)


def test_padding_gets_nothing() -> None:
    found = given_to(targets([[0.0, 0, 64, 64], [0.0, 0, 64, 64]], [-1, -1]))
    assert not found.positive.any()
    assert (found.quality == 0).all()
    assert found.counted.all(), "a picture without objects is background everywhere"


def test_an_ignored_box_gets_nothing_and_is_no_background_either() -> None:
    box = [8.0, 8, 40, 40]
    found = given_to(targets([box], [0], [True]))
    assert not found.positive.any()
    assert torch.equal(found.counted[0], ~inside(box))


def test_a_real_box_inside_an_ignored_one_is_still_found() -> None:
    real, ignored = [16.0, 16, 48, 48], [0.0, 0, 64, 64]
    found = given_to(targets([ignored, real], [0, 1], [True, False]))
    assert found.positive.any()
    assert (found.box[found.positive] == 1).all()
    assert torch.equal(found.counted, found.positive), "all the rest is inside the ignored box"


def test_far_background_is_unknown_where_only_the_neighbourhood_is_labelled() -> None:
    box = [24.0, 24, 40, 40]
    found = given_to(targets([box], [0], only_near=True))
    margin = 16 * NEAR
    near = inside([24 - margin, 24 - margin, 40 + margin, 40 + margin])
    assert torch.equal(found.counted[0], near)
    assert near.any() and not near.all()
    assert found.positive.any()


def test_padding_has_no_neighbourhood() -> None:
    found = given_to(targets([[24.0, 24, 40, 40]], [-1], only_near=True))
    assert not found.counted.any()


def test_pictures_of_a_batch_do_not_mix() -> None:
    first, second = targets([[0.0, 0, 32, 32]], [0]), targets([[32.0, 32, 64, 64]], [1])
    both = Targets(
        torch.cat([first.boxes, second.boxes]),
        torch.cat([first.classes, second.classes]),
        torch.cat([first.ignore, second.ignore]),
        None,
        None,
        False,
    )
    together = given_to(both)
    for row, alone in enumerate((given_to(first), given_to(second))):
        assert torch.equal(together.positive[row], alone.positive[0])
        torch.testing.assert_close(together.quality[row], alone.quality[0])


def test_a_box_between_the_anchor_points_gets_none() -> None:
    found = given_to(targets([[5.0, 5, 11, 11]], [0]))
    assert not found.positive.any()


boxes_xyxy = st.tuples(
    st.integers(-8, 56), st.integers(-8, 56), st.integers(1, 64), st.integers(1, 64), st.integers(-1, 1), st.booleans()
)


@given(st.lists(boxes_xyxy, min_size=1, max_size=6), st.booleans(), st.integers(0, 2**31))
def test_whatever_the_labels_only_real_boxes_own_anchors_inside_them(
    rows: list[tuple[int, int, int, int, int, bool]], only_near: bool, seed: int
) -> None:
    boxes = [[float(x), float(y), float(x + w), float(y + h)] for x, y, w, h, _, _ in rows]
    classes, ignore = [row[4] for row in rows], [row[5] for row in rows]
    generator = torch.Generator().manual_seed(seed)
    _, predicted = fresh()
    predicted = predicted + torch.rand(predicted.shape, generator=generator) * 8 - 4
    scores = torch.rand(1, ANCHORS, CLASSES, generator=generator)
    found = assign(scores, predicted, POINTS, targets(boxes, classes, ignore, only_near=only_near))
    for anchor in found.positive[0].nonzero()[:, 0].tolist():
        owner = int(found.box[0, anchor])
        assert classes[owner] >= 0 and not ignore[owner]
        assert inside(boxes[owner])[anchor]
    assert ((found.quality >= 0) & (found.quality <= 1)).all()
    assert (found.quality[~found.positive] == 0).all()
    assert found.counted[found.positive].all()
    unknown = torch.zeros(ANCHORS, dtype=torch.bool)
    for box, kind, ignored in zip(boxes, classes, ignore, strict=True):
        if kind >= 0 and ignored:
            unknown |= inside(box)
    assert not (found.counted[0] & unknown & ~found.positive[0]).any()
    assert found.quality.isfinite().all()


@given(st.integers(0, 3), st.integers(12, 30), st.integers(12, 30), st.integers(0, 1))
def test_every_real_box_that_an_anchor_overlaps_gets_a_positive(
    corner: int, width: int, height: int, kind: int
) -> None:
    """Boxes in corners of their own do not compete; 12 pixels hold an anchor point of stride 8 wherever they lie."""
    boxes, classes = [], []
    for quarter in range(4):
        x, y = 32 * (quarter % 2) + 1, 32 * (quarter // 2) + 1
        w, h = (width, height) if quarter == corner else (20, 20)
        boxes.append([float(x), float(y), float(x + w), float(y + h)])
        classes.append(kind if quarter == corner else 0)
    found = given_to(targets(boxes, classes))
    assert set(found.box[found.positive].tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_scores_at_their_ends_are_finite(score: float) -> None:
    _, boxes = fresh()
    found = assign(torch.full((1, ANCHORS, CLASSES), score), boxes, POINTS, targets([[8.0, 8, 40, 40]], [0]))
    assert found.quality.isfinite().all()
