"""Where something moves in the pictures of a stream."""

from typing import Final

import cv2
import numpy as np

from engines.arrays import Float, Luma
from pipeline.frames.luma import PointNoise, luma_points, mean_change, moved_points, point_gaps
from pipeline.frames.picture import Picture

GRID: Final = (144, 256)  # rows and columns of points: one for each 7.5 pixels of 1080p
MAX_SHARE: Final = 0.3  # of the points; where more have moved it is the light, or the camera itself
MIN_POINTS: Final = 2  # of a thing that moves


class MotionFinder:
    """Finds what moves, from one picture of a stream to the next that it is shown."""

    def __init__(self) -> None:
        self._last: Luma | None = None
        self._noise = PointNoise((0, 0))
        self._time_s = 0.0

    def look(self, picture: Picture, time_s: float) -> Float:
        """Boxes (N, 4) xyxy, source pixels, around what has moved since the last picture, the largest first.

        They reach a point too far to each side. Of the first picture, and where all of it changes, there are none.
        """
        luma, before = luma_points(picture, GRID), self._last
        self._last, step_s, self._time_s = luma, time_s - self._time_s, time_s
        if before is None or before.shape != luma.shape or step_s <= 0.0:
            self._noise = PointNoise(luma.shape)
            return np.zeros((0, 4), np.float32)
        change = np.maximum(luma, before) - np.minimum(luma, before)
        moved = moved_points(change, self._noise, mean_change(change))
        count = int(np.count_nonzero(moved))
        self._noise.learn(change, step_s, bool(count))
        if not count or count > MAX_SHARE * moved.size:
            return np.zeros((0, 4), np.float32)
        return _boxes(moved.view(np.uint8), picture)


def _boxes(moved: Luma, picture: Picture) -> Float:
    near = cv2.dilate(moved, np.ones((3, 3), np.uint8))
    # OpenCV counts from 1; 0 is what has not moved.
    _, parts, stats, _ = cv2.connectedComponentsWithStats(near, connectivity=8)
    points = np.bincount(parts[moved > 0], minlength=len(stats))
    found = np.flatnonzero(points >= MIN_POINTS)
    found = found[np.argsort(-points[found], kind="stable")]
    left, top, width, height, _ = stats[found].T
    rows, columns = point_gaps(picture, GRID)
    boxes = np.stack([left * columns, top * rows, (left + width) * columns, (top + height) * rows], axis=1)
    return np.asarray(np.minimum(boxes, [picture.width, picture.height] * 2), np.float32)
