"""How the camera moved between two frames, told by the tracks alone: no picture is looked at.

What a camera does, all that is seen does at once: when most tracks are elsewhere than they should be, and all by the
same shift, it was the camera. Only the shift is told; a slow turn or zoom passes into the velocities of the tracks.
"""

import math
from typing import Final

import numpy as np

from engines.arrays import Double

ENOUGH: Final = 5  # tracks that must be found again
CERTAIN: Final = 4.0  # standard errors of the middle of their shifts: a smaller shift is none
ROUNDING: Final = 0.5  # pixels, of which no two boxes are nearer than chance
NORMAL: Final = 1.48  # standard deviation of a normal distribution, by its median distance from the middle


def shared_motion(ahead: Double, boxes: Double) -> Double | None:
    """The shift of source pixels that most tracks share.

    Args:
        ahead: (4, M) boxes where tracks should be, ENOUGH of them at least.
        boxes: (4, M) where they are.

    Returns:
        (2, 3) transform, or None where they share none.
    """
    shifts = (boxes[:2] + boxes[2:] - ahead[:2] - ahead[2:]) * 0.5
    shared, few = _middle(shifts), CERTAIN / math.sqrt(shifts.shape[1])
    if np.abs(shared).max() <= few * ROUNDING:  # the common case: that is within any spread
        return None
    spread = NORMAL * _middle(np.abs(shifts - shared)) + ROUNDING
    certain = np.abs(shared) > few * spread
    return np.concatenate([np.eye(2), shared * certain], axis=1) if certain.any() else None


def _middle(rows: Double) -> Double:
    """(R, 1) of rows (R, M); a median without what makes numpy's ten times as slow on short ones."""
    ordered, count = rows.copy(), rows.shape[1]
    ordered.sort(axis=1)
    middle: Double = (ordered[:, (count - 1) // 2, None] + ordered[:, count // 2, None]) * 0.5
    return middle
