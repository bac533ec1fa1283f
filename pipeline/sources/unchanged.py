"""When a frame is worth inferring: while nothing moves, only as often as the least rate says."""

import math
from typing import Final

import numpy as np

from engines.arrays import Luma
from pipeline.frames.luma import PointNoise, mean_change, moved_points

SWEEPING: Final = 5.0  # levels that the picture changes by on average, clipped: the light, or the camera itself
AGAIN_FRAMES: Final = 3  # a second change within so many frames is motion; a single one a key frame, or a clock's digit
HOLD_S: Final = 0.5  # after motion frames are inferred for so long, until tracks have come to rest
ROUNDING: Final = 1.000_001  # a frame just in time is in time
BEGIN_S: Final = 1.0  # and at the beginning of a stream, until its tracks are confirmed


class MotionGate:
    """Decides frame by frame whether one stream's picture has changed since the last frame that was inferred.

    Pure state; times are stream time. A point has changed when it differs by more than its own noise, learned over
    time, and by more than what the whole picture differs by in this very frame, as a mean in which large differences
    are clipped: so neither a noisy sensor nor a key frame, which sharpens all of a picture at once, is taken for
    motion. The picture has changed when two points below each other have. Slow changes of the light are followed,
    since no comparison reaches back further than the last inference.

    Args:
        min_rate_hz: inferences a second, at the least.
    """

    def __init__(self, min_rate_hz: float) -> None:
        self._interval_s = 1.0 / min_rate_hz
        self._seen: Luma | None = None  # when it was last inferred ...
        self._before: tuple[Luma | None, float] = (None, -math.inf)  # ... and before that, and when
        self._noise = PointNoise((0, 0))
        self._time_s = self._inferred_s = self._hold_until_s = -math.inf
        self._frames_since = AGAIN_FRAMES + 1  # the last change

    def look(self, luma: Luma, time_s: float) -> bool:
        """Whether the frame of stream time ``time_s`` with these points (rows, columns) shows something new.

        It is taken to be inferred then, unless :meth:`put_off` follows.
        """
        if self._seen is None or self._seen.shape != luma.shape or time_s < self._time_s:
            self._noise = PointNoise(luma.shape)
            self._hold_until_s = time_s + BEGIN_S
            moved = True
        else:
            moved = self._moved(np.maximum(luma, self._seen) - np.minimum(luma, self._seen), time_s)
        next_s = time_s + (time_s - self._time_s) if self._seen is not None else time_s
        self._time_s = time_s
        wanted = moved or time_s < self._hold_until_s or next_s - self._inferred_s > self._interval_s * ROUNDING
        if wanted:
            self._before = self._seen, self._inferred_s
            self._seen, self._inferred_s = luma, time_s
        return wanted

    def put_off(self) -> None:
        """The frame that was just looked at is not inferred: the next is compared with the one that was, too."""
        self._seen, self._inferred_s = self._before

    def _moved(self, change: Luma, time_s: float) -> bool:
        mean = mean_change(change)
        sweeping = mean > SWEEPING
        over = moved_points(change, self._noise, mean)
        moved = sweeping or bool((over[1:] & over[:-1]).any())
        self._noise.learn(change, time_s - self._time_s, moved)
        if sweeping or (moved and self._frames_since <= AGAIN_FRAMES):
            self._hold_until_s = time_s + HOLD_S
        self._frames_since = 0 if moved else self._frames_since + 1
        return moved
