import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from engines.network.detection_head import DetectionHead
from engines.network.features import anchor_points
from engines.tasks.identity.loss import CosFace
from engines.training.losses import detection_loss, giou, quality_focal
from engines.training.targets import Targets
from tests.engines.training.made_data import TINY

GRID = POINTS, STRIDES, _ = anchor_points(64, 64)
ANCHORS = len(POINTS)


def boxes(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        ([0.0, 0, 4, 4], [0.0, 0, 4, 4], 1.0),  # identical
        ([0.0, 0, 4, 4], [2.0, 0, 6, 4], 8 / 24),  # half over: the hull is the union
        ([0.0, 0, 2, 2], [1.0, 1, 3, 3], 1 / 7 - 2 / 9),  # corners overlap: hull 9, union 7
        ([0.0, 0, 1, 1], [2.0, 0, 3, 1], -1 / 3),  # apart: hull 3, union 2
        ([0.0, 0, 4, 4], [1.0, 1, 3, 3], 4 / 16),  # one inside the other
        ([0.0, 0, 2, 2], [2.0, 0, 4, 2], 0.0),  # touching
    ],
)
def test_giou_by_hand(a: list[float], b: list[float], wanted: float) -> None:
    assert giou(boxes(a), boxes(b)).item() == pytest.approx(wanted, abs=1e-6)
    assert giou(boxes(b), boxes(a)).item() == pytest.approx(wanted, abs=1e-6)


def test_giou_pulls_a_box_that_is_apart() -> None:
    box = boxes([10.0, 10, 12, 12]).requires_grad_()
    (1 - giou(box, boxes([0.0, 0, 2, 2]))).sum().backward()
    assert box.grad is not None and (box.grad[0, :2] > 0).all(), "descending moves it towards the other"


def test_quality_focal_is_zero_at_a_perfect_answer_and_grows_with_the_gap() -> None:
    target = torch.tensor([0.3, 0.8])
    assert quality_focal(target.logit(), target).abs().max() < 1e-9
    far, near = quality_focal(torch.tensor([2.0, 0.5]), torch.tensor([0.0, 0.0]))
    assert far > near > 0


def test_quality_focal_by_hand() -> None:
    score, target = 0.7, 0.2
    entropy = -(target * math.log(score) + (1 - target) * math.log(1 - score))
    found = quality_focal(torch.tensor([score]).logit(), torch.tensor([target]))
    assert found.item() == pytest.approx((score - target) ** 2 * entropy, rel=1e-5)


def head(landmarks: bool = True) -> DetectionHead:
    return DetectionHead(TINY, 1, landmarks=landmarks)


def raw(landmarks: bool = True) -> Tensor:
    """What a fresh head says."""
    torch.manual_seed(0)
    values = torch.randn(1, ANCHORS, 15 if landmarks else 5) * 0.01
    values[..., 0] -= 4.6
    values[..., 1:5] += math.log(2)
    return values.requires_grad_()


def targets(*, kind: int = 0, ignore: bool = False, only_near: bool = False, has_landmarks: bool = True) -> Targets:
    box = [16.0, 16, 48, 48]
    points = [[24.0, 26], [40, 26], [32, 34], [26, 42], [38, 42]]
    return Targets(
        torch.tensor([[box]]),
        torch.tensor([[kind]]),
        torch.tensor([[ignore]]),
        torch.tensor([[points]]),
        torch.tensor([[has_landmarks]]),
        only_near,
    )


def gradient(wanted: Targets) -> Tensor:
    values = raw()
    detection_loss(head(), values, GRID, wanted).total.backward()
    assert values.grad is not None
    return values.grad[0]


def test_a_perfect_prediction_costs_nothing() -> None:
    wanted = targets()
    assert wanted.landmarks is not None
    values = torch.full((1, ANCHORS, 15), -20.0)
    best = 27  # the anchor point at (28, 28), stride 8
    point, box = POINTS[best], wanted.boxes[0, 0]
    values[0, best, 0] = 20
    values[0, best, 1:5] = (torch.cat([point - box[:2], box[2:] - point]) / 8).log()
    values[0, best, 5:] = ((wanted.landmarks[0, 0] - point) / 8).flatten()
    loss = detection_loss(head(), values, GRID, wanted)
    assert loss.total.item() == pytest.approx(0.0, abs=1e-4)
    assert set(loss.parts) == {"class", "box", "landmarks"}


def test_background_is_pushed_down_and_the_object_up() -> None:
    found = gradient(targets())[:, 0]
    assert found.min() < 0, "the object's anchors should say more"
    outside = (POINTS < 16).any(1)
    assert (found[outside] > 0).all()


def test_an_ignored_region_takes_no_part() -> None:
    found = gradient(targets(ignore=True))
    inside = ((POINTS > 16) & (POINTS < 48)).all(1)
    assert (found[inside] == 0).all()
    assert (found[~inside, 0] > 0).all()
    assert (found[:, 1:] == 0).all()


def of_classes(known: list[bool] | None = None, score: float | None = None) -> Tensor:
    """The gradient on the logits of three classes, of which the second has a box."""
    torch.manual_seed(0)
    values = torch.randn(1, ANCHORS, 7) * 0.01
    values[..., :3] -= 4.6
    values[..., 3:] += math.log(2)
    values.requires_grad_()
    wanted = replace(
        targets(kind=1),
        landmarks=None,
        has_landmarks=None,
        known=None if known is None else torch.tensor([known]),
        scores=None if score is None else torch.tensor([[score]]),
    )
    detection_loss(DetectionHead(TINY, 3, landmarks=False), values, GRID, wanted).total.backward()
    assert values.grad is not None
    return values.grad[0]


def test_a_class_that_nobody_labelled_in_a_picture_has_no_gradient() -> None:
    found = of_classes([True, True, False])[:, :3]
    assert (found[:, 2] == 0).all()
    assert (found[:, 0] > 0).all(), "it is labelled, and nowhere to be seen"


def test_a_box_teaches_its_class_where_that_is_not_labelled_completely() -> None:
    """But nothing around it: others of the class may be there."""
    whole, partly = (of_classes([True, second, True])[:, 1] for second in (True, False))
    up = whole < 0
    assert up.any() and torch.equal(partly[up], whole[up])
    assert (partly[~up] == 0).sum() > (whole[~up] == 0).sum()
    assert (partly[(POINTS < 16).any(1)] == 0).all()


def test_a_box_that_a_machine_is_not_sure_of_counts_by_its_score() -> None:
    sure, half = of_classes(), of_classes(score=0.5)
    assert torch.equal(of_classes(score=1.0), sure)
    assert (half[:, 1] < 0).any()
    perfect = torch.full((1, ANCHORS, 7), -20.0)
    best, box = 27, targets().boxes[0, 0]
    perfect[0, best, 3:] = (torch.cat([POINTS[best] - box[:2], box[2:] - POINTS[best]]) / 8).log()
    wanted = replace(targets(kind=1), landmarks=None, has_landmarks=None, scores=torch.tensor([[0.5]]))
    losses = []
    for score in (0.3, 0.5, 0.7):
        perfect[0, best, 1] = math.log(score / (1 - score))
        head3 = DetectionHead(TINY, 3, landmarks=False)
        losses.append(float(detection_loss(head3, perfect, GRID, wanted).parts["class"]))
    assert losses[1] < min(losses[0], losses[2]), "its score is what ours should be"


def test_far_from_an_only_near_box_nothing_is_learnt() -> None:
    found = gradient(targets(only_near=True))
    far = ((POINTS < 0) | (POINTS > 64)).any(1)
    assert not far.any(), "all of this picture is near"
    small = targets(only_near=True)
    small = Targets(
        torch.tensor([[[16.0, 16, 32, 32]]]), small.classes, small.ignore, small.landmarks, small.has_landmarks, True
    )
    found = gradient(small)
    far = (POINTS > 40).any(1)
    assert (found[far] == 0).all()
    assert (found[~far, 0] != 0).any()


def test_padding_is_background_alone() -> None:
    found = gradient(targets(kind=-1))
    assert (found[:, 0] > 0).all()
    assert (found[:, 1:] == 0).all()


def test_missing_landmarks_teach_nothing() -> None:
    known, unknown = gradient(targets()), gradient(targets(has_landmarks=False))
    assert (known[:, 5:] != 0).any()
    assert (unknown[:, 5:] == 0).all()
    torch.testing.assert_close(unknown[:, :5], known[:, :5])


def test_a_head_without_landmarks_reports_none() -> None:
    loss = detection_loss(head(landmarks=False), raw(landmarks=False), GRID, targets())
    assert set(loss.parts) == {"class", "box"}


def unit(*angles_deg: float) -> Tensor:
    angles = torch.deg2rad(torch.tensor(angles_deg))
    return torch.stack([angles.cos(), angles.sin()], 1)


def cosface(margin: float = 0.3, scale: float = 8.0) -> CosFace:
    made = CosFace(2, 3, scale, margin)
    made.centres.data = unit(0.0, 90.0, 180.0) * 0.05
    return made


def test_cosface_by_hand() -> None:
    embedding, labels = unit(60.0), torch.tensor([0])
    loss = cosface()(embedding, torch.tensor([0.5]), labels, 1.0)
    logits = [8 * (0.5 - 0.3), 8 * math.cos(math.radians(30)), 8 * -0.5]
    wanted = -logits[0] + math.log(sum(math.exp(value) for value in logits))
    assert loss.parts["class"].item() == pytest.approx(wanted, rel=1e-4)
    assert loss.parts["top1"] == 0.0, "60 degrees is nearer to the second centre"


def test_without_a_ramp_there_is_no_margin() -> None:
    embedding, quality, labels = unit(10.0, 80.0), torch.tensor([0.5, 0.5]), torch.tensor([0, 1])
    plain, ramped = (cosface()(embedding, quality, labels, ramp).total for ramp in (0.0, 1.0))
    assert ramped > plain
    torch.testing.assert_close(plain, cosface(margin=0.0)(embedding, quality, labels, 1.0).total)


def test_quality_learns_how_surely_a_face_is_told_apart() -> None:
    """A face at its own centre should say more than one between two centres; the embedding learns nothing of it."""
    quality = torch.tensor([0.5, 0.5], requires_grad=True)
    cosface()(unit(0.0, 45.0), quality, torch.tensor([0, 0]), 1.0).total.backward()
    assert quality.grad is not None
    assert quality.grad[0] < 0 and quality.grad[0] < quality.grad[1]


def test_a_set_teaches_nothing_about_classes_that_it_does_not_label() -> None:
    """Neither as background nor where a box is; the classes that it does label are taught both."""
    torch.manual_seed(0)
    both = DetectionHead(TINY, 2, landmarks=False)
    said = (torch.randn(1, ANCHORS, 6) * 0.01).requires_grad_()
    given = Targets(*(getattr(targets(), key) for key in ("boxes", "classes", "ignore")), None, None, False)
    detection_loss(both, said, GRID, replace(given, known=torch.tensor([[True, False]]))).total.backward()
    assert said.grad is not None
    assert (said.grad[..., 1] == 0).all() and (said.grad[..., 0] != 0).all()
