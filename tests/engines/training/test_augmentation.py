"""Pictures here are black with painted rectangles, so that what the labels say can be read off the pixels."""

from dataclasses import replace

import cv2
import msgspec
import pytest
import torch
from torch import Tensor

from engines.pictures import PADDING_GREY
from engines.training import pasting
from engines.training.augmentation import Augmenter, MicroBatch
from engines.training.datasets import BoxLabels, PictureSet
from engines.training.degradation import jpeg
from engines.training.preview import STILL
from engines.training.rendering import _with_opencv, _with_torch
from engines.training.settings import AugmentationSettings, Shape
from engines.training.targets import Targets

CANVAS = 96
EXTENT = (96, 72)  # width, height of the picture on the canvas
BOXES = [[20, 16, 44, 48], [56, 30, 84, 46]]  # xyxy
COLOURS = [[250, 20, 20], [20, 250, 20]]
EYES_NOSE_MOUTH = [[26, 22], [38, 22], [32, 30], [28, 40], [36, 40]]
SPOTS = [[250, 20, 20], [20, 250, 20], [20, 20, 250], [250, 250, 20], [20, 250, 250]]


NO_LABELS = BoxLabels(torch.zeros(0), torch.zeros(0), torch.zeros(0))


def painted(count: int) -> PictureSet:
    """``count`` times the same picture: a red and a green rectangle, each a class of its own."""
    picture = torch.full((CANVAS, CANVAS, 3), PADDING_GREY, dtype=torch.uint8)
    picture[: EXTENT[1], : EXTENT[0]] = 0
    for (x0, y0, x1, y1), colour in zip(BOXES, COLOURS, strict=True):
        picture[y0:y1, x0:x1] = torch.tensor(colour, dtype=torch.uint8)
    boxes = torch.zeros(count, 5, 4)  # with three columns of padding
    boxes[:, :2] = torch.tensor(BOXES, dtype=torch.float32)
    classes = torch.tensor([[0, 1, -1, -1, -1]]).repeat(count, 1)
    labels = BoxLabels(boxes, classes, torch.zeros(count, 5, dtype=torch.bool))
    pictures = picture[None].repeat(count, 1, 1, 1)
    return PictureSet("painted", "boxes", pictures, torch.tensor([EXTENT] * count, dtype=torch.float32), objects=labels)


def faces(count: int) -> PictureSet:
    """One face a picture whose five landmarks are spots of five colours."""
    picture = torch.zeros(CANVAS, CANVAS, 3, dtype=torch.uint8)
    for (x, y), colour in zip(EYES_NOSE_MOUTH, SPOTS, strict=True):
        picture[y - 2 : y + 2, x - 2 : x + 2] = torch.tensor(colour, dtype=torch.uint8)
    labels = BoxLabels(
        torch.tensor([[[20.0, 14, 44, 48]]]).repeat(count, 1, 1),
        torch.zeros(count, 1, dtype=torch.int64),
        torch.zeros(count, 1, dtype=torch.bool),
        torch.tensor([[EYES_NOSE_MOUTH]], dtype=torch.float32).repeat(count, 1, 1, 1),
        torch.ones(count, 1, dtype=torch.bool),
    )
    pictures = picture[None].repeat(count, 1, 1, 1)
    return PictureSet("faces", "boxes", pictures, torch.tensor([EXTENT] * count, dtype=torch.float32), faces=labels)


def varied(
    data: PictureSet, size: int | Shape = 96, *, seed: int = 0, mosaic: bool = False, **changes: object
) -> MicroBatch:
    settings, shape = msgspec.structs.replace(STILL, **changes), (size, size) if isinstance(size, int) else size
    return Augmenter(settings, torch.Generator().manual_seed(seed))(data, torch.arange(len(data)), shape, mosaic=mosaic)


def objects_of(batch: MicroBatch) -> Targets:
    assert batch.objects is not None
    return batch.objects


def seen(picture: Tensor, colour: list[int]) -> list[float] | None:
    """The hull xyxy of the pixels of one colour; None where there are none."""
    mask = ((picture.int() - torch.tensor(colour)).abs() < 110).all(-1)
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    return [columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scale": (0.5, 0.9)},
        {"scale": (1.1, 2.0)},
        {"shift": 0.4},
        {"flip": 1.0},
        {"flip": 0.5, "scale": (0.6, 1.8), "shift": 0.2},
    ],
    ids=["still", "smaller", "larger", "shifted", "flipped", "all at once"],
)
@pytest.mark.parametrize("size", [64, 128, (160, 96), (96, 160)])
def test_boxes_follow_the_pixels(changes: dict[str, object], size: int | Shape) -> None:
    batch = varied(painted(16), size, **changes)
    targets, compared = objects_of(batch), 0
    for picture, boxes, classes in zip(batch.pictures, targets.boxes, targets.classes, strict=True):
        for kind, colour in enumerate(COLOURS):
            hull, (rows,) = seen(picture, colour), (classes == kind).nonzero(as_tuple=True)
            if not len(rows):
                # Gone from the labels: at most a sliver of it is left in the picture.
                assert hull is None or min(hull[2] - hull[0], hull[3] - hull[1]) <= 4
                continue
            assert boxes[rows[0]].tolist() == pytest.approx(hull, abs=1.5)
            compared += 1
    assert compared >= 16


def test_a_turned_box_follows_its_object() -> None:
    """A box cannot turn: it keeps the centre and lies between the object's hull and what the object fills."""
    batch = varied(painted(16), 192, rotate_deg=15.0, scale=(0.6, 0.6))
    targets = objects_of(batch)
    for picture, boxes, classes in zip(batch.pictures, targets.boxes, targets.classes, strict=True):
        assert classes.tolist() == [0, 1]
        for box, colour in zip(boxes, COLOURS, strict=True):
            hull = torch.tensor(seen(picture, colour))
            torch.testing.assert_close((box[:2] + box[2:]) / 2, (hull[:2] + hull[2:]) / 2, atol=1.5, rtol=0)
            assert (box[:2] >= hull[:2] - 1.5).all() and (box[2:] <= hull[2:] + 1.5).all()
            assert (box[2:] - box[:2]).prod() > 0.55 * (hull[2:] - hull[:2]).prod()


def test_a_turned_face_keeps_its_shape() -> None:
    """But for the little stretch that every picture gets: turning does not shear."""
    targets = varied(faces(32), 192, rotate_deg=45.0, flip=0.5, scale=(0.5, 0.5)).faces
    assert targets is not None and targets.landmarks is not None
    points = targets.landmarks[:, 0]
    apart = torch.cdist(points, points)[:, *torch.triu_indices(5, 5, 1)]
    before = torch.tensor(EYES_NOSE_MOUTH, dtype=torch.float32)
    wanted = torch.cdist(before, before)[*torch.triu_indices(5, 5, 1)]
    # Half of 192 by 96, and flipped points are numbered from the other side.
    ratio = apart.sort(dim=1).values / wanted.sort().values
    assert ((ratio > 0.88) & (ratio < 1.14)).all()


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_landmarks_stay_on_their_pixels_and_swap_sides_when_flipped(flip: float) -> None:
    batch = varied(faces(8), 192, flip=flip, scale=(0.8, 1.0), rotate_deg=10.0)
    targets = batch.faces
    assert targets is not None and targets.landmarks is not None and targets.has_landmarks is not None
    assert targets.has_landmarks.all() and batch.objects is None
    spots = [SPOTS[k] for k in ((1, 0, 2, 4, 3) if flip else range(5))]
    for picture, ((left_eye, right_eye, nose, left_mouth, right_mouth),) in zip(
        batch.pictures, targets.landmarks, strict=True
    ):
        assert left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0], "left is left in the picture"
        for (x, y), colour in zip((left_eye, right_eye, nose, left_mouth, right_mouth), spots, strict=True):
            found = picture[int(y), int(x)].int()
            assert (found - torch.tensor(colour)).abs().max() < 60


def test_a_box_that_is_mostly_outside_is_ignored_and_one_that_left_is_gone() -> None:
    batch = varied(painted(64), 64, scale=(2.0, 2.5), seed=3)
    targets = objects_of(batch)
    real = targets.classes >= 0
    assert (real & targets.ignore).any() and (real & ~targets.ignore).any()
    assert (real.sum(1) < 2).any(), "some left the picture"
    sides = targets.boxes[..., 2:] - targets.boxes[..., :2]
    assert ((targets.boxes >= 0) & (targets.boxes <= 64))[real].all()
    assert (sides[real] >= 3).all(), "slivers are no targets"


def test_ignored_boxes_stay_ignored() -> None:
    data = painted(4)
    assert data.objects is not None
    data.objects.ignore[:, 1] = True
    assert objects_of(varied(data)).ignore.tolist() == [[False, True]] * 4


def test_what_is_outside_the_picture_is_the_letterboxs_grey() -> None:
    batch = varied(painted(1), 96)
    assert (batch.pictures[0, 90:] == PADDING_GREY).all()
    assert (batch.pictures[0, :4] == PADDING_GREY).all(), "the picture is centred"
    assert (batch.pictures[0, 20, :10] == 0).all()


def test_a_mosaic_holds_four_pictures_with_their_boxes() -> None:
    data = painted(8)
    assert data.objects is not None
    data.objects.classes[:, 0] = torch.arange(8)  # the red one's class says which picture it is
    data.objects.classes[:, 1] = -1
    batch = varied(data, 128, mosaic=True)
    targets = objects_of(batch)
    assert batch.pictures.shape == (2, 128, 128, 3)
    assert targets.classes.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    corners = torch.tensor([[0.0, 0], [64, 0], [0, 64], [64, 64]])
    for picture, boxes in zip(batch.pictures, targets.boxes, strict=True):
        for (x, y), box in zip(corners.int().tolist(), boxes, strict=True):
            hull = seen(picture[y : y + 64, x : x + 64], COLOURS[0])
            assert hull is not None
            assert (box - torch.tensor([x, y, x, y])).tolist() == pytest.approx(hull, abs=1.5)


def test_a_mosaic_moves_landmarks_too() -> None:
    batch = varied(faces(4), 192, mosaic=True)
    assert batch.faces is not None and batch.faces.landmarks is not None
    (face_points,) = batch.faces.landmarks
    assert len(face_points) == 4
    for points in face_points:
        for (x, y), colour in zip(points, SPOTS, strict=True):
            assert (batch.pictures[0, int(y), int(x)].int() - torch.tensor(colour)).abs().max() < 90


def test_targets_are_trimmed_to_the_fullest_picture_with_real_rows_first() -> None:
    data = painted(3)
    assert data.objects is not None
    data.objects.classes[0] = -1
    data.objects.classes[1] = torch.tensor([-1, 1, -1, -1, -1])
    targets = objects_of(varied(data))
    assert targets.classes.tolist() == [[-1, -1], [1, -1], [0, 1]]
    assert targets.boxes.shape == (3, 2, 4)
    torch.testing.assert_close(targets.boxes[1, 0], targets.boxes[2, 1], atol=12, rtol=0)


def test_pictures_without_any_box_keep_one_column_of_padding() -> None:
    data = painted(2)
    assert data.objects is not None
    data.objects.classes[:] = -1
    assert objects_of(varied(data)).classes.tolist() == [[-1], [-1]]


def test_labels_go_with_their_rows() -> None:
    data = painted(5)
    data = PictureSet("scenes", "scene", data.pictures, data.extents, labels=torch.arange(5) * 10, classes=5)
    augmenter = Augmenter(STILL, torch.Generator().manual_seed(0))
    batch = augmenter(data, torch.tensor([3, 1, 1]), (64, 64))
    assert batch.labels is not None and batch.labels.tolist() == [30, 10, 10]
    assert batch.objects is None and batch.faces is None, "what a set does not label is missing, not empty"


@pytest.mark.parametrize("mosaic", [False, True])
def test_a_seed_decides_everything(mosaic: bool) -> None:
    """Whatever else draws from torch's own generator meanwhile."""
    lively = AugmentationSettings(blur=0.5, erase=0.5, grey=0.5)

    def draw(seed: int) -> MicroBatch:
        return Augmenter(lively, torch.Generator().manual_seed(seed))(
            painted(8), torch.arange(8), (64, 64), mosaic=mosaic
        )

    first, _, again, other = draw(1), torch.rand(7), draw(1), draw(2)
    assert torch.equal(first.pictures, again.pictures)
    assert torch.equal(objects_of(first).boxes, objects_of(again).boxes)
    assert not torch.equal(first.pictures, other.pictures)


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation", "noise"])
def test_pixel_changes_stay_pixels_and_move_no_box(name: str) -> None:
    still = varied(painted(4))
    batch = varied(painted(4), **{name: 10.0 if name == "noise" else 0.9})
    assert batch.pictures.dtype == torch.uint8 and batch.pictures.is_contiguous()
    assert not torch.equal(batch.pictures, still.pictures)
    assert torch.equal(objects_of(batch).classes, objects_of(still).classes)


def test_grey_pictures_have_no_colour() -> None:
    pictures = varied(painted(2), grey=1.0).pictures.int()
    assert (pictures.amax(-1) - pictures.amin(-1)).max() <= 1
    assert pictures.amax() > 50


def test_erasing_covers_a_rectangle_with_grey() -> None:
    still, erased = (varied(painted(8), scale=(2.0, 2.0), erase=share).pictures for share in (0.0, 1.0))
    # Both draw the same matrices, so that all that differs is what was erased.
    changed = (still != erased).any(-1)
    assert changed.flatten(1).any(1).all()
    assert (erased[changed] == PADDING_GREY).all()


def test_blurring_softens_edges() -> None:
    sharp, soft = (varied(painted(2), blur=share).pictures.float() for share in (0.0, 1.0))
    assert (soft.diff(dim=2).abs().amax()) < sharp.diff(dim=2).abs().amax()


def test_opencv_and_torch_make_the_same_pictures() -> None:
    """On smooth pictures, to within what OpenCV's rounding of positions costs."""
    torch.manual_seed(0)
    coarse = torch.rand(4, 3, 6, 6) * 255
    smooth = torch.nn.functional.interpolate(coarse, size=CANVAS, mode="bicubic").clamp(0, 255)
    pictures = smooth.permute(0, 2, 3, 1).to(torch.uint8).contiguous()
    turn = torch.tensor([[0.9, -0.3, 20.0], [0.3, 0.9, -15.0]])
    matrices = torch.stack([torch.eye(2, 3), turn, turn * 0.6])
    colours = torch.eye(3, 4).repeat(3, 1, 1)
    colours[1] = torch.tensor([[0.8, 0.1, 0.0, 9.0], [0.2, 0.9, 0.1, -20.0], [0.0, 0.4, 0.3, 5.0]])
    rows = torch.tensor([2, 0, 3])
    one, other = (made(pictures, rows, matrices, colours, (80, 64)).float() for made in (_with_opencv, _with_torch))
    assert (one - other).abs().mean() < 0.6
    assert ((one - other).abs() > 4).float().mean() < 0.01
    assert torch.equal(one[0], pictures[2, :64, :80].float()), "the identity changes nothing"


def test_what_is_pasted_brings_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pasting, "MIN_PATCH_PX", 10.0)
    data = painted(32)
    batch = varied(data, 128, paste_objects=1.0)
    targets, compared = objects_of(batch), 0
    still = objects_of(varied(data, 128))
    for picture, boxes, classes, ignore in zip(
        batch.pictures, targets.boxes, targets.classes, targets.ignore, strict=True
    ):
        for box, kind, ignored in zip(boxes, classes.tolist(), ignore.tolist(), strict=True):
            if kind >= 0 and not ignored:
                x, y = ((box[:2] + box[2:]) / 2).int().tolist()
                known = (picture[y, x].int() - torch.tensor(COLOURS[kind])).abs().max() < 60
                compared += int(known)
    assert compared >= 0.9 * int((still.classes >= 0).sum()), "boxes are where their colours are"
    assert int((targets.classes >= 0).sum()) > int((still.classes >= 0).sum())


def test_a_pasted_face_is_large_has_its_points_and_is_no_background_for_objects() -> None:
    target = painted(8)
    target = replace(target, faces=replace(faces(8).faces or NO_LABELS, classes=torch.full((8, 1), -1)))
    donor = faces(4)
    donor = replace(donor, faces=replace(donor.faces or NO_LABELS, boxes=torch.tensor([[[20.0, 14, 56, 50]]] * 4)))
    settings = msgspec.structs.replace(STILL, paste_faces=1.0)
    batch = Augmenter(settings, torch.Generator().manual_seed(0), donor)(target, torch.arange(8), (128, 128))
    assert batch.faces is not None and batch.faces.landmarks is not None and batch.faces.has_landmarks is not None
    assert batch.faces.classes.tolist() == [[0]] * 8 and batch.faces.has_landmarks.all()
    sides = (batch.faces.boxes[..., 2:] - batch.faces.boxes[..., :2]).amax(-1)
    assert (sides > 0.25 * 128).all()
    objects = objects_of(batch)
    for picture, points, box, boxes, ignore in zip(
        batch.pictures, batch.faces.landmarks[:, 0], batch.faces.boxes[:, 0], objects.boxes, objects.ignore, strict=True
    ):
        nose = points[2].int().tolist()
        assert (picture[nose[1], nose[0]].int() - torch.tensor(SPOTS[2])).abs().max() < 90
        covers = ignore & (boxes[:, :2] <= box[:2] + 1).all(1) & (boxes[:, 2:] >= box[2:] - 1).all(1)
        assert covers.any(), "nobody says which objects a pasted face belongs to"


def test_what_is_known_of_a_picture_and_how_sure_a_box_is_go_along() -> None:
    """A mosaic knows a class where all its quarters do."""
    data = painted(8)
    known = torch.zeros(8, 3, dtype=torch.bool)
    known[:, 0], known[3:, 1] = True, True
    labels = data.objects or NO_LABELS
    scores = torch.linspace(0.1, 0.9, labels.classes.numel()).view(labels.classes.shape)
    data = replace(data, objects=replace(labels, known=known, scores=scores))
    single, mosaic = objects_of(varied(data)), objects_of(varied(data, mosaic=True))
    assert single.known is not None and single.scores is not None and mosaic.known is not None
    assert torch.equal(single.known, known)
    assert torch.equal(single.scores[single.classes >= 0], scores[labels.classes >= 0])
    assert mosaic.known.tolist() == [[True, False, False], [True, True, False]]


def test_a_pasted_face_hides_the_face_under_it() -> None:
    donor = replace(faces(1), faces=replace(faces(1).faces or NO_LABELS, boxes=torch.tensor([[[10.0, 4, 70, 64]]])))
    settings = msgspec.structs.replace(STILL, paste_faces=1.0)
    small = replace(faces(64).faces or NO_LABELS, boxes=torch.tensor([[[44.0, 32, 52, 40]]] * 64))
    batch = Augmenter(settings, torch.Generator().manual_seed(0), donor)(
        replace(faces(64), faces=small), torch.arange(64), (96, 96)
    )
    assert batch.faces is not None
    assert (batch.faces.classes >= 0).sum(1).unique().tolist() == [1, 2], "hidden in some, beside it in others"


def test_little_light_is_darker_and_keeps_what_is_there() -> None:
    light, dark = (varied(painted(4), low_light=share).pictures.float() for share in (0.0, 1.0))
    assert dark.mean() < 0.8 * light.mean()
    assert seen(varied(painted(1), low_light=1.0).pictures[0], [120, 10, 10]) is not None


def test_jpeg_is_what_a_codec_leaves() -> None:
    """Near what OpenCV's own encoder makes of the same picture at the same quality."""
    torch.manual_seed(0)
    coarse = torch.rand(1, 3, 16, 16) * 255
    picture = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear").to(torch.uint8)[0].permute(1, 2, 0)
    errors = {}
    for quality in (20, 90):
        ours = jpeg(picture[None].contiguous(), torch.tensor([float(quality)]))[0].float()
        _, data = cv2.imencode(".jpg", picture.numpy()[..., ::-1].copy(), [cv2.IMWRITE_JPEG_QUALITY, quality])
        theirs = torch.from_numpy(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)).float()
        assert (ours - theirs).abs().mean() < 3.0
        errors[quality] = (ours - picture).abs().mean()
    assert errors[20] > errors[90] > 0


@pytest.mark.parametrize("size", [(112, 112), (160, 160), (192, 96), (96, 192)])
def test_every_augmentation_works_at_every_size(size: Shape) -> None:
    everything = AugmentationSettings(low_light=0.5, blur=0.5, jpeg=0.5, erase=0.5, paste_objects=0.5)
    batch = Augmenter(everything, torch.Generator().manual_seed(0))(painted(6), torch.arange(6), size)
    assert batch.pictures.shape == (6, size[1], size[0], 3) and batch.pictures.dtype == torch.uint8
