"""How the camera moved between two frames, told by the tracks alone: no picture is looked at.

What a camera does, all that is seen does at once: when most tracks are elsewhere than they should be, and all by the
same shift, it was the camera. Only the shift is told; a slow turn or zoom passes into the velocities of the tracks.
"""

from typing import Final

import numpy as np

from engines.arrays import Double
from pipeline.tracking.association import Blocks

ENOUGH: Final = 5  # tracks that must be found again
CERTAIN: Final = 4.0  # standard errors of the middle of their shifts: a smaller shift is none
ROUNDING: Final = 0.5  # pixels, of which no two boxes are nearer than chance
NORMAL: Final = 1.48  # standard deviation of a normal distribution, by its median distance from the middle


def shared_motions(ahead: Double, boxes: Double, streams: Blocks) -> dict[int, Double]:
    """The shifts of source pixels that most tracks of a stream share.

    Args:
        ahead: (4, M) boxes where tracks should be.
        boxes: (4, M) where they are.
        streams: which of them are of which stream.

    Returns:
        (2, 3) transforms, by stream, of those that have ENOUGH tracks and share one.
    """
    shifts = (boxes[:2] + boxes[2:] - ahead[:2] - ahead[2:]) * 0.5
    padded, counts = streams.padded(shifts), np.maximum(streams.counts, 1)
    shared, few = _middle(padded, counts), CERTAIN / np.sqrt(counts)
    distances = np.abs(shared)
    likely = (distances > few * ROUNDING).any(axis=0) & (streams.counts >= ENOUGH)
    if not likely.any():  # the common case: that is within any spread
        return {}
    spread = NORMAL * _middle(np.abs(padded - shared[..., None]), counts) + ROUNDING
    shared *= distances > few * spread
    told = (likely & shared.any(axis=0)).nonzero()[0].tolist()
    return {stream: np.concatenate([np.eye(2), shared[:, stream, None]], axis=1) for stream in told}


def _middle(rows: Double, counts: Double) -> Double:
    """The medians (R, B) of rows (R, B, W), of which the first ``counts`` (B,) count and what follows is no number."""
    ordered = np.sort(rows, axis=2)  # numbers first
    streams = np.arange(len(counts))
    middle: Double = (ordered[:, streams, (counts - 1) // 2] + ordered[:, streams, counts // 2]) * 0.5
    return middle
