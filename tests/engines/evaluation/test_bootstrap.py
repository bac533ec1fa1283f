import time
from pathlib import Path

import numpy as np
import pytest

from engines.data.coco import CocoBox, CocoSet
from engines.evaluation.bootstrap import (
    Interval,
    mean_over_categories,
    pair_weights,
    percentile_interval,
    resample,
    resampled_precision,
    weighted_mean,
)
from engines.evaluation.coco import BoxDetection
from engines.evaluation.matching import match


def test_every_resample_has_as_many_units_and_a_seed_always_draws_the_same() -> None:
    drawn = resample(7, 50, seed=3)
    assert drawn.shape == (50, 7)
    assert (drawn.sum(axis=1) == 7).all()
    assert (drawn == resample(7, 50, seed=3)).all()
    assert (drawn != resample(7, 50, seed=4)).any()


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    interval = percentile_interval(weighted_mean(values, resample(len(values))))
    error = values.std() / np.sqrt(len(values))
    assert interval is not None
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        interval = percentile_interval(weighted_mean(generator.random(100) < 0.3, resample(100, 400)))
        assert interval is not None
        covered += interval.low <= 0.3 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_values_that_do_not_exist_are_left_out() -> None:
    weights = np.array([[1.0, 1.0, 2.0], [0.0, 3.0, 0.0]])
    assert weighted_mean(np.array([1.0, np.nan, 4.0]), weights) == pytest.approx([3.0, np.nan], nan_ok=True)
    assert percentile_interval(np.array([np.nan, 2.0, 2.0])) == Interval(2.0, 2.0)
    assert percentile_interval(np.full(3, np.nan)) is None
    of_two = mean_over_categories(np.array([[0.2, np.nan], [np.nan, np.nan]]))
    assert of_two == pytest.approx([0.2, np.nan], nan_ok=True)


def test_pairs_are_drawn_by_their_identities() -> None:
    pairs = [("ada", "ada"), ("ada", "bob"), ("bob", "bob")]
    weights = pair_weights(pairs, 200)
    ada, both, bob = weights.T
    assert (both == ada * bob).all()
    assert set(ada + bob) == {2.0}, "two identities are drawn each time"
    assert {0.0, 1.0} == set(both)


def test_100_crowded_pictures_take_a_second_or_two() -> None:
    generator = np.random.default_rng(0)
    wanted, found = [], []
    for picture in range(100):
        for number in range(3):
            box = (float(50 * number), 10.0, 40.0, 40.0)
            category = int(generator.integers(1, 24))
            wanted.append(CocoBox(len(wanted), picture, category, box))
            found.append(BoxDetection(picture, category, box, float(generator.random())))
        found += [
            BoxDetection(picture, int(generator.integers(1, 24)), (200.0, 10.0, 40.0, 40.0), float(generator.random()))
            for _ in range(50)
        ]
    data = CocoSet({number: Path(str(number)) for number in range(100)}, wanted, {n: str(n) for n in range(1, 24)})
    started = time.process_time()
    precision = resampled_precision(match(data, found), resample(100))
    assert precision.shape == (1000, 23, 10)
    assert time.process_time() - started < 10.0 / 3, "a second or two of one core"
    interval = percentile_interval(mean_over_categories(precision[:, :, 0]))
    assert interval is not None and 0.0 < interval.low < interval.high < 1.0
