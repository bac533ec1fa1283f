import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.pooling import FADE, MIN_QUALITY, SHARPNESS, Pool

ADA, BOB = np.float32([1, 0]), np.float32([0, 1])


def pool_of(*views: tuple[np.ndarray, float]) -> Pool:
    pool = Pool()
    for embedding, quality in views:
        pool.add(embedding, quality)
    return pool


def test_views_of_good_quality_weigh_more() -> None:
    assert pool_of((ADA, 0.9), (BOB, 0.3)).unit[0] > 0.99


def test_a_view_of_no_quality_still_counts() -> None:
    assert pool_of((ADA, 0.0)).unit.tolist() == [1.0, 0.0]
    assert pool_of((ADA, MIN_QUALITY), (BOB, 0.0)).unit[1] > 0.7


def test_newer_views_weigh_a_little_more() -> None:
    older, newer = pool_of((ADA, 0.5), (BOB, 0.5)).unit
    assert older / newer == pytest.approx(FADE)


def test_agreement_is_one_of_equal_views_and_none_of_opposite_ones() -> None:
    assert pool_of((ADA, 0.5), (ADA, 0.4)).agreement == pytest.approx(1.0)
    assert pool_of((ADA, 0.5), (-ADA, 0.5 / FADE ** (1 / SHARPNESS) * FADE ** (2 / SHARPNESS))).agreement < 1e-6


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1)), min_size=2, max_size=8), st.integers(1, 7))
def test_two_pools_joined_are_one_pool_of_all_views(rows: list[tuple[float, float]], cut: int) -> None:
    views = [
        (np.float32([np.cos(angle), np.sin(angle), 2.0]) / np.float32(np.sqrt(5)), quality) for angle, quality in rows
    ]
    cut = min(cut, len(views) - 1)
    joined, whole = pool_of(*views[:cut]).joined(pool_of(*views[cut:])), pool_of(*views)
    assert joined.unit == pytest.approx(whole.unit, abs=1e-5)
    assert joined.agreement == pytest.approx(whole.agreement, abs=1e-5)
    assert joined.views == whole.views


def test_joining_nothing_changes_nothing() -> None:
    assert Pool().joined(pool_of((ADA, 0.5))).unit.tolist() == [1.0, 0.0]
