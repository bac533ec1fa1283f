"""Pictures that show the same: perceptual hashes, and what is near by them."""

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from engines.arrays import Hashes, Pixels, Rows

SAME_BITS = 6  # hashes that differ in at most so many of 64 bits are of one picture
SIDE, LOW = 32, 8
BLOCK = 512  # hashes compared at a time with all others


def perceptual_hash(pixels: Pixels) -> int:
    """64 bits of a picture (H, W, 3) RGB that survive scaling and compression.

    The signs of the lowest frequencies of its brightness about their median (Zauner, "Implementation and Benchmarking
    of Perceptual Image Hash Functions", 2010). Pictures that are mirrored or turned are others.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    # Without the first row and column: how bright it is, and how it fades from side to side, says little.
    low = np.asarray(cv2.dct(small), np.float32)[1 : LOW + 1, 1 : LOW + 1]
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def near(first: Hashes, second: Hashes | None = None, bits: int = SAME_BITS) -> Rows:
    """(K, 2) rows of the hashes (A,) and (B,) that differ in at most so many bits; without ``second``, each pair once.

    >>> near(np.array([0b1111, 0b0111], np.uint64), np.array([0b0011], np.uint64), bits=1).tolist()
    [[1, 0]]
    """
    other = first if second is None else second
    found = []
    for begin in range(0, len(first), BLOCK):
        apart = np.bitwise_count(first[begin : begin + BLOCK, None] ^ other[None])
        rows, columns = (apart <= bits).nonzero()
        rows = rows + begin
        if second is None:
            rows, columns = rows[rows < columns], columns[rows < columns]
        found.append(np.stack([rows, columns], 1))
    return np.concatenate(found) if found else np.zeros((0, 2), np.int64)


def merged(groups: Rows, pairs: Rows) -> Rows:
    """Groups (N,) after those of each pair (K, 2) of rows became one; numbered from 0.

    >>> merged(np.array([5, 6, 6, 9]), np.array([[0, 1]])).tolist()
    [0, 0, 0, 1]
    """
    _, numbers = np.unique(groups, return_inverse=True)
    count = int(numbers.max(initial=-1)) + 1
    ends = numbers[pairs[:, 0]], numbers[pairs[:, 1]]
    graph = coo_array((np.ones(len(pairs), np.bool_), ends), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    return np.asarray(label[numbers], np.int64)
