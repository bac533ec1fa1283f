"""Day and night."""

import numpy as np
import pytest

from pipeline.frames.picture import Picture
from pipeline.smoothing.light import BRIGHT, DARK, HOLD_S, LightSmoother, mean_luma


def grey(value: int, *, full_range: bool = True) -> Picture:
    planes = (np.full((48, 64), value, np.uint8), *(np.full((24, 32), 128, np.uint8) for _ in range(2)))
    return Picture(planes, 64, 48, full_range=full_range)


def test_luma_is_from_black_to_white() -> None:
    assert mean_luma(grey(0)) == 0.0
    assert mean_luma(grey(255)) == 1.0
    assert mean_luma(grey(16, full_range=False)) == 0.0
    assert mean_luma(grey(235, full_range=False)) == 1.0
    assert mean_luma(Picture.from_rgb(np.full((48, 64, 3), 51, np.uint8))) == pytest.approx(0.2)


def test_the_first_picture_decides() -> None:
    assert LightSmoother().update(0.0, 0.05) == "night"
    assert LightSmoother().update(0.0, 0.6) == "day"


def test_it_becomes_night_once_it_was_dark_for_long_enough() -> None:
    light = LightSmoother()
    said = [light.update(second, 0.6 if second < 3 else 0.05) for second in range(15)]
    assert said.index("night") == 3 + HOLD_S
    assert set(said[said.index("night") :]) == {"night"}


def test_headlights_do_not_make_a_day() -> None:
    light = LightSmoother()
    lit = [light.update(second, 0.7 if second % 4 == 3 else 0.05) for second in range(40)]
    assert set(lit) == {"night"}


def test_twilight_changes_nothing() -> None:
    dusk, dawn = LightSmoother(), LightSmoother()
    dusk.update(0.0, 0.6)
    dawn.update(0.0, 0.05)
    between = (DARK + BRIGHT) / 2
    assert {dusk.update(1.0 + second, between) for second in range(60)} == {"day"}
    assert {dawn.update(1.0 + second, between) for second in range(60)} == {"night"}
