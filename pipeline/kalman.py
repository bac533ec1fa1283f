"""Kalman filters of many boxes at once.

State and noise follow SORT (Bewley et al., 2016) and its successors: position and velocity of centre, width and
height, noise in proportion to the size of the box. The process noise is that of white acceleration over the real time
between two frames, so that dropped frames and changing rates need no special care (Bar-Shalom et al., "Estimation with
Applications to Tracking and Navigation", 2001, section 6.2).
"""

import numpy as np
import numpy.typing as npt

from engines.boxes import Float

Double = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# All in box sizes, which is the geometric mean of width and height.
MEASURED = 0.08  # standard deviation of a detection's centre, width and height
STARTING = 2.0  # per second: standard deviation of a new track's velocity
PUSHED = np.array([3.0, 3.0, 2.0, 2.0])  # per second^1.5: white acceleration of centre, width and height
MIN_SIDE = 1.0  # pixels


class BoxFilters:
    """One constant-velocity filter per row.

    The four coordinates (centre x, centre y, width, height) do not disturb each other, so that the covariance of a row
    is four 2x2 matrices, held as three arrays; every step is a few operations on whole arrays.
    """

    def __init__(self) -> None:
        self._place: Double = np.zeros((0, 4))
        self._speed: Double = np.zeros((0, 4))
        self._place_var: Double = np.zeros((0, 4))
        self._cross_var: Double = np.zeros((0, 4))
        self._speed_var: Double = np.zeros((0, 4))

    def __len__(self) -> int:
        return len(self._place)

    @property
    def boxes(self) -> Float:
        """(T, 4) xyxy pixels, at least one pixel wide and high."""
        half = self._place[:, 2:] / 2
        return np.concatenate([self._place[:, :2] - half, self._place[:, :2] + half], axis=1).astype(np.float32)

    def append(self, boxes: Float) -> None:
        """Add a filter at rest for each of the xyxy ``boxes`` (N, 4)."""
        place = _centred(boxes)
        size = _size(place)
        self._place = np.concatenate([self._place, place])
        self._speed = np.concatenate([self._speed, np.zeros_like(place)])
        self._place_var = np.concatenate([self._place_var, np.zeros_like(place) + (MEASURED * size) ** 2])
        self._cross_var = np.concatenate([self._cross_var, np.zeros_like(place)])
        self._speed_var = np.concatenate([self._speed_var, np.zeros_like(place) + (STARTING * size) ** 2])

    def predict(self, seconds: float, coasting: npt.NDArray[np.bool_]) -> None:
        """Move all boxes on by ``seconds``; those that are ``coasting`` (T,) keep their size."""
        # A size that goes on changing unseen would blow a lost track up, or shrink it to nothing.
        self._speed[coasting, 2:] = 0.0
        noise = (PUSHED * _size(self._place)) ** 2
        self._place += seconds * self._speed
        self._place[:, 2:] = self._place[:, 2:].clip(min=MIN_SIDE)
        self._place_var += seconds * (2 * self._cross_var + seconds * self._speed_var) + noise * seconds**3 / 3
        self._cross_var += seconds * self._speed_var + noise * seconds**2 / 2
        self._speed_var += noise * seconds

    def correct(self, rows: Rows, boxes: Float) -> None:
        """Take the detected xyxy ``boxes`` (N, 4) into the filters ``rows`` (N,), each row once."""
        measured = _centred(boxes)
        total = self._place_var[rows] + (MEASURED * _size(measured)) ** 2
        surprise = measured - self._place[rows]
        place_gain, speed_gain = self._place_var[rows] / total, self._cross_var[rows] / total
        self._place[rows] += place_gain * surprise
        self._place[rows, 2:] = self._place[rows, 2:].clip(min=MIN_SIDE)
        self._speed[rows] += speed_gain * surprise
        self._speed_var[rows] -= speed_gain * self._cross_var[rows]
        self._cross_var[rows] *= 1 - place_gain
        self._place_var[rows] *= 1 - place_gain

    def keep(self, kept: npt.NDArray[np.bool_]) -> None:
        """Drop the filters where ``kept`` (T,) is False."""
        self._place, self._speed = self._place[kept], self._speed[kept]
        self._place_var, self._cross_var = self._place_var[kept], self._cross_var[kept]
        self._speed_var = self._speed_var[kept]


def _centred(boxes: Float) -> Double:
    wide = boxes.astype(np.float64)
    sides = (wide[:, 2:] - wide[:, :2]).clip(min=MIN_SIDE)
    return np.concatenate([(wide[:, :2] + wide[:, 2:]) / 2, sides], axis=1)


def _size(place: Double) -> Double:
    return np.asarray(np.sqrt(place[:, 2:].prod(axis=1)), np.float64)[:, None]
