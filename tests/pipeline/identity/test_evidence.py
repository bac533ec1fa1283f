import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.identity.evidence import TURN, Evidence


def unit(*values: float) -> np.ndarray:
    vector = np.float32(values)
    return vector / np.linalg.norm(vector)


ADA, PROFILE, STRANGER = unit(1, 0, 0), unit(0.6, 0.8, 0), unit(0.1, 0, 1)


def seen(*views: np.ndarray, frontal: float = 1.0) -> Evidence:
    evidence = Evidence()
    for view in views:
        evidence.add(view, 0.5, frontal)
    return evidence


def test_views_of_one_face_raise_no_doubt() -> None:
    evidence = seen(ADA, ADA, PROFILE, ADA)
    assert evidence.shortfall == 0.0
    assert evidence.pool.views == 4


def test_one_odd_view_is_not_enough_and_is_taken_in_when_the_face_is_back() -> None:
    evidence = seen(ADA, ADA, ADA, STRANGER)
    assert 0.0 < evidence.shortfall < TURN
    assert (evidence.pool.views, evidence.doubtful.views) == (3, 1)
    evidence.add(ADA, 0.5, 1.0)
    assert (evidence.shortfall, evidence.pool.views, evidence.doubtful.views) == (0.0, 5, 0)


def test_two_views_of_somebody_else_turn_a_track() -> None:
    assert seen(ADA, ADA, ADA, STRANGER, STRANGER).turned


def test_turned_heads_say_less_against_the_views_before() -> None:
    evidence = seen(ADA, ADA, ADA)
    for _ in range(4):
        evidence.add(STRANGER, 0.5, 0.3)
    assert not evidence.turned


def test_after_a_turn_only_the_newer_views_count() -> None:
    evidence = seen(ADA, ADA, ADA, STRANGER, STRANGER)
    evidence.settle(same=False)
    assert evidence.pool.unit @ STRANGER > 0.99
    assert (evidence.pool.views, evidence.shortfall, evidence.doubtful.views) == (2, 0.0, 0)


def test_the_same_face_from_another_side_keeps_all_views() -> None:
    evidence = seen(ADA, ADA, ADA, STRANGER, STRANGER)
    assert evidence.resemblance < 0.2
    evidence.settle(same=True)
    assert (evidence.pool.views, evidence.shortfall) == (5, 0.0)


@given(st.lists(st.tuples(st.floats(-3, 3), st.floats(0, 1), st.floats(0.2, 1)), min_size=1, max_size=30))
def test_no_view_is_lost(rows: list[tuple[float, float, float]]) -> None:
    evidence = Evidence()
    for angle, quality, frontal in rows:
        evidence.add(unit(np.cos(angle), np.sin(angle), 0.1), quality, frontal)
    assert evidence.pool.views + evidence.doubtful.views == evidence.all.views == len(rows)
    assert np.isfinite(evidence.all.unit).all()
