"""Day or night, from how bright a stream's pictures are."""

from typing import Final

import numpy as np

from pipeline.frames.light import Light
from pipeline.frames.picture import Picture

DARK: Final = 0.20  # mean luma, from 0 to 1, below which it becomes night ...
BRIGHT: Final = 0.30  # ... and above which it becomes day
HOLD_S: Final = 5.0  # for so long: headlights pass, lamps are switched
STEP: Final = 16  # of the rows and columns of pixels that are looked at, one


def mean_luma(picture: Picture) -> float:
    """How bright a picture is, from 0 (black) to 1 (white)."""
    seen = picture.planes[0][::STEP, ::STEP]
    if len(picture.planes) == 1:  # RGB
        return float(seen.mean()) / 255
    mean = float(seen.mean())
    return mean / 255 if picture.full_range else float(np.clip((mean - 16) / 219, 0.0, 1.0))


class LightSmoother:
    """Whether it is day or night in a stream; pure state, times are stream time.

    The first picture decides by what it is nearer to; later it changes once pictures have been dark, or bright, for
    ``HOLD_S`` without a break.
    """

    def __init__(self) -> None:
        self._light: Light | None = None  # None until a picture was seen
        self._since_s: float | None = None  # since when pictures say something else

    @property
    def light(self) -> Light | None:
        """As of the last picture; None before the first."""
        return self._light

    def update(self, time_s: float, luma: float) -> Light:
        """Take the mean luma of one frame."""
        if self._light is None:
            self._light = "night" if luma < (DARK + BRIGHT) / 2 else "day"
        other = luma > BRIGHT if self._light == "night" else luma < DARK
        if not other:
            self._since_s = None
        elif self._since_s is None:
            self._since_s = time_s
        elif time_s - self._since_s >= HOLD_S:
            self._light, self._since_s = ("day" if self._light == "night" else "night"), None
        return self._light
