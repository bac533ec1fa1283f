"""The luma of points of a picture, and the noise of each: what motion is told from."""

import math
from typing import Final

import cv2
import numpy as np

from engines.arrays import Flags, Luma
from pipeline.frames.picture import Picture

ROWS, COLUMNS = 54, 128  # points that are looked at: a person 5 % as high as the picture covers two rows at least
MIN_CHANGE: Final = 4  # luma levels; what changes by less shows nothing
NOISES: Final = 4.0  # standard deviations of its noise that a point must change by,
PULSES: Final = 5.0  # and times what the whole picture does in this frame
CLIP: Final = np.uint8(12)  # levels; what moves must not pass for noise
LEARN_S: Final = 10.0  # in which the noise of each point is learned,
LEARN_MOVED_S: Final = 60.0  # and while something moves: leaves in the wind, but nobody who lingers
LEARN_FRAMES: Final = 4  # one frame in so many is learned from


def luma_points(picture: Picture, grid: tuple[int, int] = (ROWS, COLUMNS)) -> Luma:
    """The luma of points on a regular grid (rows, columns), or as many as the picture has; of RGB its green."""
    rows, columns = point_gaps(picture, grid)
    plane = picture.planes[0] if len(picture.planes) > 1 else picture.planes[0][..., 1]
    return np.ascontiguousarray(plane[rows // 2 :: rows, columns // 2 :: columns])


def point_gaps(picture: Picture, grid: tuple[int, int]) -> tuple[int, int]:
    """How many pixels lie from one row of such points to the next, and from one column to the next."""
    return max(1, picture.height // grid[0]), max(1, picture.width // grid[1])


def moved_points(change: Luma, noise: "PointNoise", mean: float) -> Flags:
    """Which points (rows, columns) of a picture have moved.

    Args:
        change: luma levels that each differs by from an earlier picture.
        noise: of each.
        mean: :func:`mean_change` of them.
    """
    return np.asarray(change > np.maximum(noise.limits, np.uint8(PULSES * mean)))


def mean_change(change: Luma) -> float:
    """By how many levels the whole picture has changed, a mean in which large differences are clipped."""
    return float(cv2.mean(np.minimum(change, CLIP))[0])


class PointNoise:
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
