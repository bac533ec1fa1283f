"""Which parts of a large picture are looked at: small things that move or were seen, and the rest in turn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.frames.picture import Picture
from pipeline.inference.crops import MEMORY, PATROL, CropBox, CropChooser
from pipeline.inference.motion import MotionFinder

PICTURE, NETWORK = (1920, 1080), (288, 288)
NOTHING = np.zeros((0, 4), np.float32)
WITHIN = 3  # frames


def boxes(*rows: tuple[float, float, float, float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def holds(crop: CropBox, box: np.ndarray, margin: float = 0.0) -> bool:
    x0, y0, x1, y1 = box
    left, top, width, height = crop
    inside = left + margin <= x0 and top + margin <= y0 and x1 <= left + width - margin and y1 <= top + height - margin
    return bool(inside)


def scene(thing: tuple[int, int] | None, noise: np.random.Generator) -> Picture:
    """A noisy grey 1080p picture with a bright thing of 30 x 40 pixels."""
    luma = np.full((1080, 1920), 90, np.uint8)
    luma[::5, ::7] = 90 + noise.integers(0, 2, (216, 275), np.uint8)
    if thing is not None:
        x, y = thing
        luma[y : y + 40, x : x + 30] = 200
    chroma = np.full((540, 960), 128, np.uint8)
    return Picture((luma, chroma, chroma), 1920, 1080)


def test_a_small_thing_that_moves_is_in_a_crop_within_a_few_frames() -> None:
    chooser, motion, noise = CropChooser(PICTURE, NETWORK), MotionFinder(), np.random.default_rng(0)
    since = None
    for number in range(16):
        there = number >= 6
        place = (1500 + 12 * (number - 6), 300)
        picture = scene(place if there else None, noise)
        crops = chooser.choose(motion.look(picture, number / 10), 1)
        thing = boxes((*place, place[0] + 30, place[1] + 40))[0]
        if there and any(holds(crop, thing, 10.0) and crop.width < 400 for crop in crops):
            since = number
            break
    assert since is not None and since - 6 < WITHIN


def test_motion_in_all_of_the_picture_is_the_light_or_the_camera() -> None:
    motion, noise = MotionFinder(), np.random.default_rng(1)
    for number in range(5):
        motion.look(scene(None, noise), number / 10)
    picture = scene(None, noise)
    brighter = Picture((picture.planes[0] + np.uint8(60), *picture.planes[1:]), 1920, 1080)
    assert not len(motion.look(brighter, 0.6))


@pytest.mark.parametrize("network", [(288, 288), (384, 224)])
def test_where_nothing_moves_one_crop_goes_around_until_all_was_seen(network: tuple[int, int]) -> None:
    chooser = CropChooser(PICTURE, network)
    last = np.zeros((1080, 1920), np.int64)
    for number in range(1, 3 * len(chooser.tiles)):
        (crop,) = chooser.choose(NOTHING, 4)
        left, top, width, height = crop
        last[top : top + height, left : left + width] = number
        assert number - last.min() <= len(chooser.tiles), f"crop {number}: some part was not seen for long"


def test_what_was_seen_is_looked_at_again_and_the_rest_is_not_forgotten() -> None:
    chooser, thing = CropChooser(PICTURE, NETWORK), boxes((100, 100, 120, 140))
    chooser.saw([], thing)
    again, seen = 0, np.zeros((1080, 1920), np.bool_)
    for _ in range(PATROL * len(chooser.tiles)):
        (crop,) = chooser.choose(NOTHING, 1)
        again += holds(crop, thing[0], 5.0) and crop.width < 300
        left, top, width, height = crop
        seen[top : top + height, left : left + width] = True
        chooser.saw([crop], thing)
    assert again == (PATROL - 1) * len(chooser.tiles)
    assert seen.all()


def test_a_thing_that_is_not_found_again_is_given_up() -> None:
    chooser, thing = CropChooser(PICTURE, NETWORK), boxes((100, 100, 120, 140))
    chooser.saw([], thing)
    (first, *_) = chooser.choose(NOTHING, 2)
    assert holds(first, thing[0])
    chooser.saw([first], NOTHING)
    assert all(crop in chooser.tiles for crop in chooser.choose(NOTHING, 2))


def test_a_thing_that_no_crop_came_back_to_is_known_for_a_while() -> None:
    chooser = CropChooser(PICTURE, NETWORK)
    chooser.saw([], boxes((100, 100, 120, 140)))
    for _ in range(MEMORY + 1):
        chooser.choose(NOTHING, 0)
        chooser.saw([], NOTHING)
    assert all(crop in chooser.tiles for crop in chooser.choose(NOTHING, 2))


def test_more_things_than_crops_take_turns() -> None:
    chooser = CropChooser(PICTURE, NETWORK)
    far = boxes((50, 50, 70, 70), (1800, 50, 1820, 70), (50, 1000, 70, 1020), (1800, 1000, 1820, 1020))
    seen = np.zeros(len(far), np.int64)
    for _ in range(16):
        crops = chooser.choose(NOTHING, 2)
        seen += [any(holds(crop, box) for crop in crops) for box in far]
        chooser.saw(crops, far)
    assert seen.min() >= 16 * 2 * (PATROL - 1) // PATROL // len(far) - 1


def test_a_large_thing_needs_no_crop() -> None:
    chooser = CropChooser(PICTURE, NETWORK)
    chooser.saw([], boxes((300, 200, 900, 1000)))
    assert all(crop in chooser.tiles for crop in chooser.choose(boxes((100, 100, 800, 900)), 3))


def test_crops_that_overlap_become_one_and_what_is_apart_has_its_own() -> None:
    chooser = CropChooser(PICTURE, NETWORK)
    chooser.saw([], boxes((500, 500, 520, 540), (560, 520, 580, 560), (1500, 200, 1520, 240)))
    crops = [crop for crop in chooser.choose(NOTHING, 4) if crop not in chooser.tiles]
    assert len(crops) == 2
    assert all(any(holds(crop, box, 10.0) for crop in crops) for box in chooser._things[:, :4])


def test_a_picture_that_is_hardly_larger_than_the_network_has_no_crops() -> None:
    chooser = CropChooser((352, 288), NETWORK)
    chooser.saw([], boxes((10, 10, 20, 20)))
    assert chooser.choose(boxes((10, 10, 20, 20)), 4) == []


SIDE = st.integers(33, 4000)
SHARE = st.floats(0.0, 1.0)


@given(
    picture=st.tuples(SIDE, SIDE),
    network=st.sampled_from([(288, 288), (384, 224), (160, 128)]),
    things=st.lists(st.tuples(SHARE, SHARE, st.floats(1.0, 200.0), st.floats(1.0, 200.0)), max_size=12),
    count=st.integers(0, 5),
)
@settings(max_examples=40)
def test_crops_lie_in_the_picture_are_no_smaller_than_the_network_and_keep_things_whole(
    picture: tuple[int, int], network: tuple[int, int], things: list[tuple[float, ...]], count: int
) -> None:
    chooser = CropChooser(picture, network)
    found = boxes(
        *(
            (x * picture[0], y * picture[1], x * picture[0] + width, y * picture[1] + height)
            for x, y, width, height in things
        )
    )
    found = np.minimum(found, [*picture, *picture]).astype(np.float32)
    chooser.saw([], found)
    crops = chooser.choose(NOTHING, count)
    assert len(crops) <= count
    for crop in crops:
        assert crop.left % 2 == crop.top % 2 == 0
        assert 0 <= crop.left <= crop.left + crop.width <= picture[0]
        assert 0 <= crop.top <= crop.top + crop.height <= picture[1]
        assert crop.width >= min(network[0], picture[0]) - 1
        assert crop.height >= min(network[1], picture[1]) - 1
    for group in chooser._grouped(chooser._things[:, :4]):
        x0, y0, x1, y1 = group.box
        assert holds(group.crop, np.array([x0 + 2, y0 + 2, x1 - 2, y1 - 2]))
