import cv2
import numpy as np
import pytest

from engines.errors import GalleryError
from pipeline.gallery.views import BEST, BestViews, View, decode_photo, encode_photo, turned
from tests.pipeline.made_views import LANDMARKS, made_crop, made_view


def test_a_good_view_has_no_flaw() -> None:
    assert made_view(1).flaw() is None


def smeared(along: int) -> np.ndarray:
    """Moved while the picture was taken, along rows (1) or columns (0)."""
    return cv2.blur(made_crop(), (25, 1) if along else (1, 25))


def moved_nose(by: float) -> np.ndarray:
    return LANDMARKS + np.array([[0, 0], [0, 0], [by, 0], [0, 0], [0, 0]], np.float32)


@pytest.mark.parametrize(
    ("view", "sentence"),
    [
        pytest.param(made_view(height=39.4), "is 39 pixels high, but must be at least 40", id="too small"),
        pytest.param(made_view(landmarks=moved_nose(24)), "is turned away: its nose is 0.60", id="turned left"),
        pytest.param(made_view(landmarks=moved_nose(-24)), "is turned away: its nose is 0.60", id="turned right"),
        pytest.param(made_view(crop=made_crop() // 8), "is badly lit: its brightness is 1", id="too dark"),
        pytest.param(made_view(crop=made_crop() // 8 + 224), "is badly lit: its brightness is 24", id="too bright"),
        pytest.param(made_view(crop=made_crop() // 16 + 120), "is badly lit", id="no contrast"),
        pytest.param(
            made_view(crop=cv2.GaussianBlur(made_crop(), (0, 0), 3)), "is blurred: its sharpness is", id="out of focus"
        ),
        pytest.param(made_view(crop=smeared(0)), "is blurred: its sharpness is", id="moved up or down"),
        pytest.param(made_view(crop=smeared(1)), "is blurred: its sharpness is", id="moved sideways"),
    ],
)
def test_what_is_wrong_with_a_view(view: View, sentence: str) -> None:
    flaw = view.flaw()
    assert flaw is not None
    assert flaw.startswith(sentence)


def test_a_head_on_its_side_is_not_turned_away() -> None:
    assert turned(LANDMARKS[:, ::-1]) == turned(LANDMARKS) == 0.0


def test_a_track_without_views_has_none() -> None:
    assert BestViews().of_one_face() == []


def test_the_best_views_are_remembered_best_first() -> None:
    best = BestViews()
    views = [made_view(1, quality=score / 10) for score in range(10)]
    for score in (3, 9, 0, 5, 7, 1, 8, 2, 6, 4):
        best.add(views[score], score)
    assert best.of_one_face() == [views[9 - place] for place in range(BEST)]


def test_views_of_a_face_that_the_track_has_left_are_not_given() -> None:
    best = BestViews()
    best.add(made_view(1, 0), 0.9)
    now = made_view(0, 1)
    best.add(now, 0.2)
    assert best.of_one_face() == [now]


def test_a_kept_photo_is_nearly_the_face_it_was() -> None:
    crop = cv2.GaussianBlur(made_crop(), (0, 0), 3)
    again = decode_photo(encode_photo(crop))
    assert np.abs(again.astype(int) - crop).mean() < 3


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no picture", id="no picture"),
        pytest.param(encode_photo(np.zeros((50, 50, 3), np.uint8)), id="another size"),
    ],
)
def test_a_damaged_photo_is_refused(data: bytes) -> None:
    with pytest.raises(GalleryError, match="a stored photo is damaged: it is no JPEG of 112x112 pixels"):
        decode_photo(data)
