import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.frames.types import Identity
from pipeline.settings.schema import LineSettings, StreamSettings, ZoneSettings
from pipeline.sinks.annotate import INK, PLACE, annotate, place_label, text_colour, track_colour
from tests.pipeline.made_results import OBJECTS, SCENES, make_result

PICTURE = (320, 240)
coordinates = st.floats(-500, 900, width=32)
sides = st.integers(1, 200)


def grey(width: int = 320, height: int = 240) -> np.ndarray:
    return np.full((height, width, 3), 128, dtype=np.uint8)


def box(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


@given(st.tuples(coordinates, coordinates, coordinates, coordinates), st.tuples(sides, sides))
def test_a_label_that_fits_the_picture_is_never_off_it(corners, size) -> None:
    x, y, width, height = place_label(box(*corners), size, PICTURE, [])
    assert (width, height) == size
    assert x >= 0
    assert y >= 0
    assert x + width <= PICTURE[0]
    assert y + height <= PICTURE[1]


@pytest.mark.parametrize(
    ("corners", "taken", "expected"),
    [
        pytest.param((50, 100, 90, 150), [], (50, 80, 60, 20), id="above its box where there is room"),
        pytest.param((50, 5, 90, 150), [(50, 0, 60, 20)], (50, 150, 60, 20), id="below when another label is above"),
        pytest.param(
            (50, 5, 90, 230), [(0, 0, 320, 5)], (50, 220, 60, 20), id="inside, when above and below is no room"
        ),
        pytest.param((50, 100, 130, 150), [(40, 80, 20, 20)], (70, 80, 60, 20), id="at its right, when left is taken"),
        pytest.param((50, 100, 90, 110), [(0, 80, 320, 50)], (50, 60, 60, 20), id="higher, when all around is taken"),
        pytest.param((300, 100, 340, 150), [], (260, 80, 60, 20), id="moved left at the right edge"),
        pytest.param((-30, 100, 40, 150), [], (0, 80, 60, 20), id="moved right at the left edge"),
        pytest.param((50, 100, 90, 150), [(0, 0, 320, 240)], (50, 80, 60, 20), id="over another when all is taken"),
    ],
)
def test_where_a_label_goes(corners, taken, expected) -> None:
    assert place_label(box(*corners), (60, 20), PICTURE, taken) == expected


def test_the_given_pixels_are_left_as_they_are() -> None:
    pixels = grey()
    pixels.flags.writeable = False
    drawn = annotate(pixels, make_result(pixels, [(40, 60, 120, 200)]), OBJECTS, SCENES)
    assert (pixels == 128).all()
    assert (drawn != 128).any()
    assert drawn.shape == pixels.shape
    assert drawn.dtype == np.uint8


def test_an_object_is_outlined_in_the_colour_of_its_track() -> None:
    drawn = annotate(grey(), make_result(grey(), [(40, 60, 120, 200)]), OBJECTS, SCENES)
    for x in (40, 120):  # smooth lines blend in a little of what lies beside them
        assert drawn[130, x] == pytest.approx(np.array(track_colour(1)), abs=25)
    assert tuple(drawn[130, 80]) == (128, 128, 128)  # nothing is drawn over the object itself


def test_a_named_face_looks_unlike_an_unknown_one() -> None:
    face = [(100, 80, 160, 160)]
    unknown = annotate(grey(), make_result(grey(), faces=face), OBJECTS, SCENES)
    named = annotate(grey(), make_result(grey(), faces=face, identities=[Identity("Ada", 0.7)]), OBJECTS, SCENES)
    assert tuple(unknown[120, 100]) != tuple(named[120, 100])


def test_all_five_landmarks_are_drawn() -> None:
    drawn = annotate(grey(), make_result(grey(), faces=[(100, 80, 160, 160)]), OBJECTS, SCENES)
    for x, y in [(118, 112), (142, 112), (130, 128), (121, 144), (139, 144)]:
        assert tuple(drawn[y, x]) != (128, 128, 128)


def test_the_scene_is_written_only_once_there_is_evidence_for_one() -> None:
    without = annotate(grey(), make_result(grey()), OBJECTS, SCENES)
    with_scene = annotate(grey(), make_result(grey(), scene_label=1), OBJECTS, SCENES)
    corner = (slice(0, 15), slice(0, 60))
    assert (without[corner] == 128).all()
    assert (with_scene[corner] != 128).any()


@pytest.mark.parametrize("size", [(8, 8), (33, 17), (64, 512), (1920, 1080)])
def test_any_picture_size_can_be_drawn_on(size) -> None:
    pixels = grey(*size)
    width, height = size
    result = make_result(pixels, [(0, 0, width, height)], [(-5, -5, width + 5, height + 5)], scene_label=0)
    assert annotate(pixels, result, OBJECTS, SCENES).shape == (height, width, 3)


def test_neighbouring_tracks_have_colours_far_apart() -> None:
    colours = np.array([track_colour(track) for track in range(1, 9)], dtype=int)
    assert (np.abs(np.diff(colours, axis=0)).sum(axis=1) > 100).all()


def test_no_track_has_the_colour_of_zones_and_lines() -> None:
    colours = np.array([track_colour(track) for track in range(1, 200)], dtype=int)
    assert (np.abs(colours - PLACE).sum(axis=1) > 60).all()


def test_text_is_legible_on_every_track() -> None:
    for track in range(1, 200):
        fill = np.array(track_colour(track), dtype=float)
        text = np.array(text_colour(track_colour(track)), dtype=float)
        assert np.abs(fill - text).sum() > 200


def test_landmarks_leave_a_small_face_visible() -> None:
    small, large = (100, 80, 124, 110), (100, 80, 220, 230)
    for face in (small, large):
        x0, y0, x1, y1 = face
        drawn = annotate(grey(), make_result(grey(), faces=[face]), OBJECTS, SCENES)
        inside = drawn[y0 + 4 : y1 - 3, x0 + 4 : x1 - 3].astype(int)
        assert (np.abs(inside - 128) > 30).any(axis=2).mean() < 0.2


def test_text_is_dark_on_light_and_light_on_dark() -> None:
    assert text_colour((255, 255, 255)) == INK
    assert text_colour(INK) != INK


def test_zones_and_lines_are_drawn_with_their_counts() -> None:
    zone = ZoneSettings(name="lawn", points=((0.25, 0.5), (0.75, 0.5), (0.75, 0.75), (0.25, 0.75)))
    line = LineSettings(name="gate", points=((0.25, 0.9), (0.75, 0.9)))
    stream = StreamSettings(name="door", source="0", zones=(zone,), lines=(line,))
    empty = annotate(grey(), make_result(grey()), OBJECTS, SCENES, stream)
    for x, y in [(80, 150), (160, 120), (160, 180), (160, 216), (160, 224)]:  # the zone, the line, its arrow to side b
        assert int(empty[y, x, 0]) - int(empty[y, x, 2]) > 60, "amber, though smooth lines blend into grey"
    counts = {"lawn": {"present": {"person": 1}}, "gate": {"a_to_b": {}, "b_to_a": {}}}
    assert (annotate(grey(), make_result(grey()), OBJECTS, SCENES, stream, counts) != empty).any()
