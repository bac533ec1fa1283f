"""Rows of boxes of a batch: which are likely, which may suppress each other, and where they lie in their pictures."""

from itertools import pairwise
from typing import Final

import numpy as np

from engines.arrays import Array, Float, Rows
from engines.boxes import Letterboxes

TOP: Final = 300  # rows of a picture that are looked at: as many as the frame entry gives


def likely(scores: Array, least: float) -> tuple[Rows, Rows, Float]:
    """What scores at least so much: (N,) its row in all pictures, one after the other, its picture, and its score."""
    known = scores.astype(np.float32, copy=False)
    sure = known >= least
    if known.shape[1] > TOP:
        np.put_along_axis(sure, np.argsort(-known, axis=1, kind="stable")[:, TOP:], values=False, axis=1)
    (rows,) = sure.reshape(-1).nonzero()
    return rows, rows // known.shape[1], known.reshape(-1).take(rows)


def in_pictures(boxes: Float, kept: Rows, pictures: Rows, places: Letterboxes) -> tuple[Float, Rows, list[slice]]:
    """Those of the ``kept`` boxes, picture by picture, that have an area inside their picture.

    Returns:
        The boxes in source pixels; which they are; and which part of them each picture has.
    """
    own = pictures if places.alike else pictures.take(kept)
    clipped = places.clip(places.to_source(boxes.take(kept, 0), own), own)
    filled = clipped[:, :2] < clipped[:, 2:]
    if np.count_nonzero(filled) < filled.size:
        seen = filled.all(axis=1)
        clipped, kept = clipped[seen], kept[seen]
    if places.count == 1:
        return clipped, kept, [slice(None)]
    ends = pictures[kept].searchsorted(np.arange(places.count + 1)).tolist()
    return clipped, kept, [slice(start, end) for start, end in pairwise(ends)]
