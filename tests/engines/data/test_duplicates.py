import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from engines.arrays import Pixels
from engines.data.duplicates import SAME_BITS, merged, near, perceptual_hash

hashes = st.lists(st.integers(0, 2**64 - 1), max_size=20).map(lambda row: np.array(row, np.uint64))


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Pixels:
    """Blobs of different brightness, as pictures have them."""
    coarse = np.random.default_rng(seed).integers(0, 255, (9, 12, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def apart(first: Pixels, second: Pixels) -> int:
    return (perceptual_hash(first) ^ perceptual_hash(second)).bit_count()


def test_a_smaller_and_compressed_copy_is_the_same_picture() -> None:
    for seed in range(20):
        small = cv2.resize(scene(seed), (96, 72), interpolation=cv2.INTER_AREA)
        copy = cv2.imdecode(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
        assert apart(scene(seed), np.asarray(copy, np.uint8)) <= SAME_BITS


def test_other_pictures_are_others() -> None:
    codes = np.array([perceptual_hash(scene(seed)) for seed in range(40)], np.uint64)
    assert len(near(codes)) == 0


@given(hashes, hashes, st.integers(0, 64))
def test_near_is_what_counting_bits_says(first: np.ndarray, second: np.ndarray, bits: int) -> None:
    wanted = [
        [a, b] for a, x in enumerate(first) for b, y in enumerate(second) if (int(x) ^ int(y)).bit_count() <= bits
    ]
    assert near(first, second, bits).tolist() == wanted
    assert near(first, bits=bits).tolist() == [[a, b] for a, b in near(first, first, bits).tolist() if a < b]


@given(st.lists(st.integers(0, 8), min_size=1, max_size=12), st.data())
def test_merging_joins_what_is_linked_and_nothing_else(groups: list[int], data: st.DataObject) -> None:
    rows = st.integers(0, len(groups) - 1)
    pairs = data.draw(st.lists(st.tuples(rows, rows), max_size=6))
    linked = [{i for i, group in enumerate(groups) if group == value} for value in set(groups)]
    for a, b in pairs:
        one, other = (next(each for each in linked if row in each) for row in (a, b))
        if one is not other:
            linked.remove(other)
            one |= other
    found = merged(np.array(groups, np.int64), np.array(pairs, np.int64).reshape(-1, 2))
    assert {frozenset(np.flatnonzero(found == value).tolist()) for value in found} == set(map(frozenset, linked))
