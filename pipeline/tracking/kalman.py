"""Kalman filters of many boxes at once.

State and noise follow SORT (Bewley et al., 2016) and its successors: position and velocity of centre, width and
height, noise in proportion to the size of the box. The process noise is that of white acceleration over the real time
between two detections, so that dropped frames and changing rates need no special care (Bar-Shalom et al., "Estimation
with Applications to Tracking and Navigation", 2001, section 6.2).
"""

from collections.abc import Sequence
from typing import Final, Self

import numpy as np

from engines.arrays import Double, Flags, Rows

# All in box sizes, which is the geometric mean of width and height.
MEASURED: Final = 0.08  # standard deviation of a detection's centre, width and height
STARTING: Final = 2.0  # per second: standard deviation of a new track's velocity
PUSHED_VAR: Final = np.array([3.0, 3.0, 2.0, 2.0])[:, None] ** 2  # squared, per second^1.5: white acceleration
MIN_SIDE: Final = 1.0  # pixels
EDGE: Final = 0.01  # share of a picture's width or height: from there on a box touches its edge
LONG: Final = 2.5  # steps without a detection, after which a thing comes back rather than goes on

PLACE, SPEED, PLACE_VAR, CROSS_VAR, SPEED_VAR = range(5)


class BoxFilters:
    """One constant-velocity filter per row, each as it was at its last detection.

    The four coordinates (centre x, centre y, width, height) do not disturb each other, so that the covariance of a row
    is four 2x2 matrices; every step is a few operations on whole arrays, coordinates first: (4, T). A filter is moved
    on in one step from one detection to the next, over whatever time lies between them: nothing is done for the frames
    in between.
    """

    def __init__(self, state: Double | None = None) -> None:
        self._state: Double = np.zeros((5, 4, 0)) if state is None else state

    @classmethod
    def joined(cls, several: "Sequence[BoxFilters]") -> Self:
        """The filters of several, one after the other, in memory of their own."""
        return cls(np.concatenate([each._state for each in several], axis=2))

    def part(self, rows: slice) -> Self:
        """Those of some rows; the memory is shared."""
        return type(self)(self._state[..., rows])

    @property
    def boxes(self) -> Double:
        """(4, T) xyxy pixels as of the last detection, at least one pixel wide and high."""
        return _corners(self._state[PLACE])

    def append(self, boxes: Double) -> None:
        """Add a filter at rest for each of the xyxy ``boxes`` (4, N)."""
        place = _centred(boxes)
        area = place[2] * place[3]
        new = np.zeros((5, *boxes.shape))
        new[PLACE], new[PLACE_VAR], new[SPEED_VAR] = place, MEASURED**2 * area, STARTING**2 * area
        self._state = np.concatenate([self._state, new], axis=2)

    def predicted(self, seconds: Double, step: float | Double) -> Double:
        """The xyxy boxes (4, T) ``seconds`` (T,) after the last detection of each.

        Sizes change over ``step`` seconds at most, one for all or (T,): one that goes on changing unseen would blow a
        lost track up, or shrink it to nothing.
        """
        return _corners(_moved(self._state, seconds, step))

    def correct(self, seconds: Double, step: float | Double, boxes: Double, seen: Flags) -> None:
        """Take in a detection of each row that was ``seen`` (T,), ``seconds`` (T,) after the one before it.

        Args:
            seconds: (T,) since the last detection.
            step: seconds since the last frame, one for all or (T,). What was not seen in the two frames before gets
                the velocity of the straight line from where it was last: what remains of the re-update of Cao et al.,
                "Observation-Centric SORT", CVPR 2023, section 3.2, when detections are made up ever more densely.
            boxes: (4, T) xyxy; of what was not seen they may hold anything finite.
            seen: (T,) which rows have a detection.
        """
        measured = _centred(boxes)
        new = _corrected(self._state, seconds, step, measured)
        (back,) = (seen & (seconds > LONG * step)).nonzero()
        if len(back):
            new[SPEED][:, back] = (measured[:, back] - self._state[PLACE][:, back]) / seconds[back]
        if np.count_nonzero(seen) == len(seen):
            self._state = new
        else:
            np.copyto(self._state, new, where=seen)

    def move(self, motion: Double) -> None:
        """Move everything as the camera's motion (2, 3), a shift, turn and zoom of source pixels, moved the picture."""
        state, turn, zoom = self._state, motion[:, :2], np.sqrt(abs(np.linalg.det(motion[:, :2])))
        state[PLACE, :2] = turn @ state[PLACE, :2] + motion[:, 2:]
        state[SPEED, :2] = turn @ state[SPEED, :2]
        state[:2, 2:] *= zoom
        state[PLACE_VAR:] *= zoom**2

    def leaving(self, rows: Rows, limits: Double) -> Flags:
        """(K,) which boxes of these ``rows`` (K,) touch an edge of their picture and go out over it.

        A box that is cut off at an edge tells by its far edge where its thing is going.

        Args:
            rows: the filters that are looked at.
            limits: width and height of the picture of each, (2, K), or (2, 1) of one for all.
        """
        place, speed = self._state[:2].take(rows, 2)
        corners, half = _corners(place), speed[2:] * 0.5
        going_back = (corners[:2] <= EDGE * limits) & (speed[:2] + half < 0.0)
        going_on = (corners[2:] >= (1 - EDGE) * limits) & (speed[:2] - half > 0.0)
        return np.asarray((going_back | going_on).any(axis=0), np.bool_)

    def take(self, rows: Rows) -> None:
        """Keep the filters of these rows, in this order."""
        self._state = self._state.take(rows, 2)


def _moved(state: Double, seconds: Double, step: float | Double) -> Double:
    place: Double = state[SPEED] * seconds
    np.multiply(state[SPEED, 2:], np.minimum(seconds, step), out=place[2:])
    place += state[PLACE]
    np.maximum(place[2:], MIN_SIDE, out=place[2:])
    return place


def _corrected(state: Double, seconds: Double, step: float | Double, measured: Double) -> Double:
    """The state (5, 4, T) after ``seconds`` (T,) and a detection, centre and sides ``measured`` (4, T)."""
    new = np.empty_like(state)
    place, both, place_var, cross, sides = new[PLACE], new[:2], new[PLACE_VAR], new[CROSS_VAR], new[PLACE, 2:]
    area = measured[2] * measured[3]
    push = PUSHED_VAR * (seconds * area)
    pushed = seconds * push
    np.multiply(seconds, state[SPEED_VAR], out=cross)
    np.multiply(2, state[CROSS_VAR], out=place_var)
    place_var += cross
    place_var += pushed / 3
    place_var *= seconds
    place_var += state[PLACE_VAR]
    cross += state[CROSS_VAR]
    pushed /= 2
    cross += pushed
    ahead = _moved(state, seconds, step)
    gains = new[PLACE_VAR:SPEED_VAR] / (place_var + MEASURED**2 * area)  # of place and speed
    np.multiply(gains, measured - ahead, out=both)
    place += ahead
    new[SPEED] += state[SPEED]
    push -= gains[1] * cross
    np.add(state[SPEED_VAR], push, out=new[SPEED_VAR])
    new[PLACE_VAR:SPEED_VAR] *= 1 - gains[0]
    np.maximum(sides, MIN_SIDE, out=sides)
    return new


def _centred(boxes: Double) -> Double:
    place = np.empty_like(boxes)
    np.add(boxes[:2], boxes[2:], out=place[:2])
    place[:2] *= 0.5
    np.subtract(boxes[2:], boxes[:2], out=place[2:])
    np.maximum(place[2:], MIN_SIDE, out=place[2:])
    return place


def _corners(place: Double) -> Double:
    boxes = np.empty_like(place)
    half = place[2:] * 0.5
    np.subtract(place[:2], half, out=boxes[:2])
    np.add(place[:2], half, out=boxes[2:])
    return boxes
