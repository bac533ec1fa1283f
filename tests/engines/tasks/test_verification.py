from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.data.pairs import Pair
from engines.errors import DataError
from engines.tasks.identity.verification import (
    accept_rate,
    accept_threshold,
    accept_thresholds,
    best_thresholds,
    fold_accuracy,
    right,
    roc,
    split_folds,
)

ONCE = np.ones((1, 6))
NAMES = [f"p{number}" for number in range(20)]


def pair(first: str, second: str) -> Pair:
    return Pair(Path(first, "1.png"), Path(second, "2.png"), first == second)


def best_threshold(similarities: npt.NDArray[np.float64], genuine: npt.NDArray[np.bool_]) -> float:
    return float(best_thresholds(similarities, genuine, np.ones((1, len(genuine))))[0])


PAIRS = [pair(name, name) for name in NAMES for _ in range(3)] + [pair(a, b) for a, b in combinations(NAMES, 2)]
GENUINE = np.array([row.genuine for row in PAIRS])


def test_pairs_that_can_be_parted_are_all_right() -> None:
    scores = fold_accuracy(np.where(GENUINE, 0.8, 0.1), GENUINE, split_folds(PAIRS))
    assert (scores.mean[0], scores.std[0]) == (1.0, 0.0)
    assert scores.thresholds.mean() == pytest.approx(0.45)


def test_a_miss_is_an_error_whichever_kind_the_pair_is() -> None:
    similarities = np.where(GENUINE, 0.8, 0.1)
    genuine_row, impostor_row = 0, len(PAIRS) - 1
    similarities[[genuine_row, impostor_row]] = np.nan
    told = right(similarities, GENUINE, 0.45)
    assert not told[genuine_row] and not told[impostor_row]
    assert told.sum() == len(PAIRS) - 2
    assert fold_accuracy(similarities, GENUINE, split_folds(PAIRS)).mean[0] < 1.0


def test_a_network_that_finds_nothing_has_no_threshold() -> None:
    with pytest.raises(DataError, match="too few"):
        fold_accuracy(np.full(len(PAIRS), np.nan), GENUINE, split_folds(PAIRS))


def test_chance_is_a_half() -> None:
    similarities = np.random.default_rng(1).normal(size=len(PAIRS))
    balanced = np.concatenate([np.flatnonzero(GENUINE), np.flatnonzero(~GENUINE)[::3]])
    pairs = [PAIRS[row] for row in balanced]
    scores = fold_accuracy(similarities[balanced], GENUINE[balanced], split_folds(pairs))
    assert 0.3 < scores.mean[0] < 0.7


def test_folds_hold_equally_many_pairs_of_each_kind() -> None:
    folds = split_folds(PAIRS)
    assert np.bincount(folds.fold[GENUINE]).tolist() == [6] * 10
    assert np.ptp(np.bincount(folds.fold[~GENUINE], minlength=10)) <= 3


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=60))
def test_no_pair_that_chooses_a_threshold_shows_an_identity_of_the_fold(rows: list[tuple[str, str]]) -> None:
    pairs = [pair(first, second) for first, second in rows]
    folds = split_folds(pairs)
    assert split_folds(pairs).fold.tolist() == folds.fold.tolist()
    home: dict[str, int] = {}
    for row, ends in zip(pairs, folds.touched.tolist(), strict=True):
        for name, fold in zip(row.identities, ends, strict=True):
            assert home.setdefault(name, fold) == fold
    for fold in range(10):
        test, train = folds.split(fold)
        assert not (test & train).any()
        for row in np.flatnonzero(train):
            assert fold not in {home[name] for name in pairs[row].identities}
        for row in np.flatnonzero(test):
            assert fold in {home[name] for name in pairs[row].identities}


@pytest.mark.parametrize(
    ("case", "similarities", "genuine", "expected"),
    [
        ("parted: half-way between the two", [0.9, 0.7, 0.3], [1, 1, 0], 0.5),
        ("all of one person: below them all", [0.9, 0.7], [1, 1], 0.7),
        ("all of two people: above them all", [0.9, 0.7], [0, 0], 0.9),
        ("equal ones stay together", [0.5, 0.5, 0.5, 0.1], [1, 1, 0, 0], 0.3),
        ("one pair", [0.5], [1], 0.5),
    ],
)
def test_best_threshold(case: str, similarities: list[float], genuine: list[int], expected: float) -> None:
    found = best_threshold(np.array(similarities), np.array(genuine, np.bool_))
    assert found == pytest.approx(expected, abs=1e-5)


@given(st.lists(st.tuples(st.integers(-10, 10), st.booleans()), min_size=1, max_size=40))
def test_no_threshold_is_better_than_the_best(rows: list[tuple[int, bool]]) -> None:
    similarities = np.array([row[0] / 10 for row in rows])
    genuine = np.array([row[1] for row in rows])
    best = right(similarities, genuine, best_threshold(similarities, genuine)).sum()
    assert all(right(similarities, genuine, cut).sum() <= best for cut in np.arange(-1.05, 1.2, 0.1))


def test_at_a_false_accept_rate_of_one_in_ten_one_of_ten_impostors_passes() -> None:
    impostors = np.arange(10) / 10
    threshold = accept_threshold(impostors, 0.1)
    assert (impostors >= threshold).sum() == 1
    assert 0.8 < threshold <= 0.9
    assert accept_threshold(impostors, 0.09) > 0.9


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=50), st.floats(0.0, 1.0))
def test_never_more_impostors_pass_than_were_asked_for(values: list[int], far: float) -> None:
    impostors = np.array(values) / 5
    assert (impostors >= accept_threshold(impostors, far)).mean() <= far + 1e-9


def test_a_genuine_pair_that_was_missed_is_rejected_and_an_impostor_pair_is_left_out() -> None:
    similarities = np.array([0.9, 0.8, np.nan, 0.1, 0.2, np.nan])
    genuine = np.array([1, 1, 1, 0, 0, 0], np.bool_)
    found = accept_rate(similarities, genuine, 0.5, ONCE)
    assert found is not None
    assert (found.rate, found.threshold) == (pytest.approx(2 / 3), pytest.approx(0.1))
    assert found.resampled.tolist() == [pytest.approx(2 / 3)]


def test_a_rate_that_allows_no_impostor_is_not_given() -> None:
    similarities, genuine = np.array([0.9, 0.8, 0.7, 0.1, 0.2, 0.3]), np.array([1, 1, 1, 0, 0, 0], np.bool_)
    assert accept_rate(similarities, genuine, 0.3, ONCE) is None
    assert accept_rate(similarities, genuine, 0.34, ONCE) is not None
    assert accept_rate(similarities, np.zeros(6, np.bool_), 0.5, ONCE) is None, "nobody to accept"


counted = st.lists(st.tuples(st.integers(-5, 5), st.booleans(), st.integers(0, 3)), min_size=2, max_size=30)


@given(counted, st.floats(0.0, 1.0))
def test_a_weight_is_as_many_pairs(rows: list[tuple[int, bool, int]], far: float) -> None:
    similarities, genuine = np.array([row[0] / 5 for row in rows]), np.array([row[1] for row in rows])
    weights = np.array([row[2] for row in rows])
    repeated, kinds = np.repeat(similarities, weights), np.repeat(genuine, weights)
    if len(repeated):
        weighted = best_thresholds(similarities, genuine, weights[None].astype(float))[0]
        once = best_threshold(repeated, kinds)
        assert right(repeated, kinds, weighted).sum() == right(repeated, kinds, once).sum()
    impostors = repeated[~kinds]
    if len(impostors):
        found = accept_thresholds(similarities[~genuine], far, weights[None, ~genuine].astype(float))[0]
        assert (impostors >= found).sum() == (impostors >= accept_threshold(impostors, far)).sum()


def test_without_any_impostor_nobody_is_accepted() -> None:
    assert np.isinf(accept_thresholds(np.array([0.1, 0.2]), 0.5, np.zeros((1, 2)))[0])


@given(counted)
def test_the_curve_rises_to_the_upper_right(rows: list[tuple[int, bool, int]]) -> None:
    similarities, genuine = np.array([row[0] / 5 for row in rows]), np.array([row[1] for row in rows])
    curve = roc(similarities, genuine)
    if genuine.any() and not genuine.all():
        assert curve == sorted(curve) and curve[-1][0] == 1.0
        for far, tar in curve:
            threshold = accept_threshold(similarities[~genuine], far)
            assert tar == pytest.approx((similarities[genuine] >= threshold).mean())
    else:
        assert curve == []
