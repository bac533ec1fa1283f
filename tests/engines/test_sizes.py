"""Which input size fits the shape of some pictures."""

import pytest

from engines.sizes import MAX_CHANGE, MAX_GREY, STEP, best_size, cells, grey_share

WIDE, NARROW, TALL = (1920, 1080), (640, 480), (1080, 1920)


@pytest.mark.parametrize("reference", [(288, 288), (320, 320), (416, 416), (640, 640)])
@pytest.mark.parametrize("picture", [WIDE, NARROW, TALL, (1280, 720), (480, 640), (352, 288)])
def test_the_border_is_small_at_about_the_same_cost(picture: tuple[int, int], reference: tuple[int, int]) -> None:
    size = best_size([picture], reference)
    assert not [side for side in size if side % STEP]
    assert grey_share(picture, size) < MAX_GREY
    assert abs(size[0] * size[1] / (reference[0] * reference[1]) - 1) <= MAX_CHANGE


def test_the_sizes_of_the_usual_streams() -> None:
    assert best_size([WIDE], (288, 288)) == (384, 224)
    assert best_size([TALL], (288, 288)) == (224, 384)
    assert best_size([NARROW], (288, 288)) == (320, 256)
    assert best_size([(500, 500)], (288, 288)) == (288, 288)
    assert best_size([], (288, 288)) == (288, 288)


def test_no_stream_is_sacrificed_to_another() -> None:
    together = best_size([WIDE, TALL], (288, 288))
    worst = max(grey_share(each, together) for each in (WIDE, TALL))
    for other in (best_size([WIDE], (288, 288)), best_size([TALL], (288, 288))):
        assert worst < max(grey_share(each, other) for each in (WIDE, TALL))
    both = best_size([WIDE, NARROW], (288, 288))
    assert max(grey_share(each, both) for each in (WIDE, NARROW)) < max(
        grey_share(each, (288, 288)) for each in (WIDE, NARROW)
    )


def test_cells() -> None:
    assert cells(64, 96) == 8 * 12 + 4 * 6 + 2 * 3
