"""What was found in a picture and in crops of it, put together: each thing once, and whole."""

import numpy as np
import pytest

from engines.boxes import letterbox
from engines.decode import NO_FACES, NO_OBJECTS, Detections, Faces, Objects, decode
from engines.merging import cut_boxes, merge
from engines.spec import Thresholds

SIZE, NETWORK = (1920, 1080), (288, 288)
WHOLE = letterbox(SIZE, NETWORK)
LEFT = letterbox((600, 600), NETWORK, (200, 200))
RIGHT = letterbox((600, 600), NETWORK, (700, 200))
THRESHOLDS = Thresholds(object_score=0.3, object_iou=0.45, face_score=0.3, face_iou=0.4, identity_similarity=0.5)
SCENE = np.array([0.2, 0.8], np.float32)

Row = tuple[float, float, float, float, float, int]  # xyxy, score, label


def seen(*rows: Row, faces: Faces = NO_FACES) -> Detections:
    if not rows:
        return Detections(NO_OBJECTS, faces, SCENE)
    values = np.array(rows, np.float32)
    return Detections(Objects(values[:, :4], values[:, 4], values[:, 5].astype(np.int32)), faces, SCENE)


def boxes_of(views: list[Detections], places: list, suppression: str = "class-aware") -> list[list[float]]:
    return merge(views, places, THRESHOLDS, suppression).objects.boxes.tolist()


def test_a_thing_that_several_views_have_is_there_once_as_the_surest_has_it() -> None:
    found = merge(
        [seen((300, 300, 340, 380, 0.4, 0)), seen((302, 301, 341, 384, 0.9, 0)), seen()],
        [WHOLE, LEFT, RIGHT],
        THRESHOLDS,
    )
    assert found.objects.boxes.tolist() == [[302, 301, 341, 384]]
    assert found.objects.scores.tolist() == pytest.approx([0.9])
    assert found.scene is SCENE


@pytest.mark.parametrize("other", ["the whole picture", "a neighbour"])
def test_a_box_that_a_border_cuts_goes_where_another_view_has_the_thing(other: str) -> None:
    thing, piece = (680.0, 300.0, 860.0, 500.0, 0.5, 2), (690.0, 305.0, 800.0, 495.0, 0.95, 2)
    whole, left, right = seen(thing), seen(piece), seen()
    if other == "a neighbour":
        thing = (720.0, 300.0, 860.0, 500.0, 0.5, 2)
        whole, right = seen(), seen(thing)
        left = seen((722.0, 305.0, 800.0, 495.0, 0.95, 2))
    assert boxes_of([whole, left, right], [WHOLE, LEFT, RIGHT]) == [list(thing[:4])]


def test_a_cut_box_stays_where_nobody_else_has_the_thing_or_it_is_of_another_class() -> None:
    piece = (690.0, 305.0, 800.0, 495.0, 0.95, 2)
    assert boxes_of([seen(), seen(piece)], [WHOLE, LEFT]) == [list(piece[:4])]
    bus = (600.0, 250.0, 1400.0, 700.0, 0.9, 5)
    assert list(piece[:4]) in boxes_of([seen(bus), seen(piece)], [WHOLE, LEFT])
    assert boxes_of([seen(bus), seen(piece)], [WHOLE, LEFT], "class-agnostic") == [list(bus[:4])]


def test_two_pieces_that_are_cut_alike_do_not_remove_each_other() -> None:
    piece = (690.0, 305.0, 800.0, 495.0, 0.95, 2)
    assert boxes_of([seen(), seen(piece), seen(piece)], [WHOLE, LEFT, LEFT]) == [list(piece[:4])]


def test_small_things_in_front_of_a_large_one_stay() -> None:
    crowd, person = (300.0, 210.0, 780.0, 790.0, 0.8, 0), (400.0, 300.0, 440.0, 400.0, 0.6, 0)
    assert len(boxes_of([seen(crowd), seen(person)], [WHOLE, LEFT])) == 2


def test_borders_of_the_picture_itself_cut_nothing() -> None:
    corner = letterbox((600, 600), NETWORK, (0, 480))
    boxes = np.array(
        [[0, 900, 50, 1080], [560, 900, 600, 1000], [100, 480, 140, 560], [100, 600, 140, 700]], np.float32
    )
    assert cut_boxes(boxes, corner, SIZE).tolist() == [False, True, True, False]
    assert not cut_boxes(np.array([[0, 0, 1920, 1080]], np.float32), WHOLE, SIZE).any()


def test_faces_keep_their_landmarks() -> None:
    points = np.arange(20, dtype=np.float32).reshape(2, 5, 2)
    small = Faces(np.array([[300, 300, 330, 340]], np.float32), np.array([0.5], np.float32), points[:1])
    sure = Faces(np.array([[301, 300, 331, 341]], np.float32), np.array([0.9], np.float32), points[1:])
    found = merge([seen(faces=small), seen(faces=sure)], [WHOLE, LEFT], THRESHOLDS).faces
    assert found.boxes.tolist() == [[301, 300, 331, 341]]
    assert np.array_equal(found.landmarks, points[1:])


def test_boxes_of_a_crop_come_out_where_they_are_in_its_picture() -> None:
    raw = {
        "object_boxes": np.array([[[96, 96, 192, 144]], [[96, 96, 192, 144]]], np.float32),
        "object_scores": np.full((2, 1), 0.9, np.float32),
        "object_labels": np.zeros((2, 1), np.int64),
    }
    whole, crop = decode(raw, [WHOLE, LEFT], THRESHOLDS)
    assert crop.objects.boxes[0] == pytest.approx([200 + 200, 200 + 200, 200 + 400, 200 + 300])
    assert whole.objects.boxes[0] == pytest.approx([640, 1080 * (96 - 62) / 162, 1280, 1080 * (144 - 62) / 162], abs=8)


def test_a_picture_without_crops_is_left_as_it_is() -> None:
    one = seen((1, 2, 30, 40, 0.5, 1))
    assert merge([one], [WHOLE], THRESHOLDS) is one
    assert boxes_of([seen(), seen()], [WHOLE, LEFT]) == []
