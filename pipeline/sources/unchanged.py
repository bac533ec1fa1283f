"""When a frame is worth inferring: while nothing moves, only as often as the least rate says."""

import math
from typing import Final

import cv2
import numpy as np

from engines.arrays import Luma
from pipeline.frames.picture import Picture

ROWS, COLUMNS = 54, 128  # points that are looked at: a person 5 % as high as the picture covers two rows at least
MIN_CHANGE: Final = 4  # luma levels; what changes by less shows nothing
NOISES: Final = 4.0  # standard deviations of its noise that a point must change by,
PULSES: Final = 5.0  # and times what the whole picture does in this frame
CLIP: Final = np.uint8(12)  # levels; what moves must not pass for noise
SWEEPING: Final = 5.0  # levels that the picture changes by on average, clipped: the light, or the camera itself
LEARN_S: Final = 10.0  # in which the noise of each point is learned,
LEARN_MOVED_S: Final = 60.0  # and while something moves: leaves in the wind, but nobody who lingers
LEARN_FRAMES: Final = 4  # one frame in so many is learned from
AGAIN_FRAMES: Final = 3  # a second change within so many frames is motion; a single one a key frame, or a clock's digit
HOLD_S: Final = 0.5  # after motion frames are inferred for so long, until tracks have come to rest
ROUNDING: Final = 1.000_001  # a frame just in time is in time
BEGIN_S: Final = 1.0  # and at the beginning of a stream, until its tracks are confirmed


def luma_points(picture: Picture) -> Luma:
    """The luma of points on a regular grid (ROWS, COLUMNS), or as many as the picture has; of RGB its green."""
    rows, columns = max(1, picture.height // ROWS), max(1, picture.width // COLUMNS)
    plane = picture.planes[0] if len(picture.planes) > 1 else picture.planes[0][..., 1]
    return np.ascontiguousarray(plane[rows // 2 :: rows, columns // 2 :: columns])


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
        self._noise = _Noise((0, 0))
        self._time_s = self._inferred_s = self._hold_until_s = -math.inf
        self._frames_since = AGAIN_FRAMES + 1  # the last change

    def look(self, luma: Luma, time_s: float) -> bool:
        """Whether the frame of stream time ``time_s`` with these points (rows, columns) shows something new.

        It is taken to be inferred then, unless :meth:`put_off` follows.
        """
        if self._seen is None or self._seen.shape != luma.shape or time_s < self._time_s:
            self._noise = _Noise(luma.shape)
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
        mean = cv2.mean(np.minimum(change, CLIP))[0]
        sweeping = mean > SWEEPING
        over = change > np.maximum(self._noise.limits, np.uint8(PULSES * mean))
        moved = sweeping or bool((over[1:] & over[:-1]).any())
        self._noise.learn(change, time_s - self._time_s, moved)
        if sweeping or (moved and self._frames_since <= AGAIN_FRAMES):
            self._hold_until_s = time_s + HOLD_S
        self._frames_since = 0 if moved else self._frames_since + 1
        return moved


class _Noise:
    """What each point changes by while nothing moves.

    Attributes:
        limits: (rows, columns) luma levels that a point must change by, more than its noise ever does.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.limits: Luma = np.full(shape, MIN_CHANGE, np.uint8)
        self._power = np.zeros(shape, np.float32)  # mean squared change
        self._frames = 0
        self._since_s = 0.0

    def learn(self, change: Luma, step_s: float, moved: bool) -> None:
        """Take a frame, ``step_s`` seconds after the one before."""
        self._since_s += step_s
        self._frames += 1
        if self._frames % LEARN_FRAMES:
            return
        share = 1.0 - math.exp(-self._since_s / (LEARN_MOVED_S if moved else LEARN_S))
        share = max(share, LEARN_FRAMES / self._frames)  # a plain mean to begin with
        self._since_s = 0.0
        clipped = np.minimum(change, CLIP)
        self._power += np.float32(share) * (clipped * clipped - self._power)
        self.limits = np.maximum(np.rint(NOISES * np.sqrt(self._power)), MIN_CHANGE).astype(np.uint8)
