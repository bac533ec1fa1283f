import time

import pytest

from tools.benchmarking.figures import REPEATS, Percentiles, Spread, measure, rounded


def test_of_three_repeats_the_middle_one_counts() -> None:
    assert Spread.of([30.0, 10.0, 20.123456]) == Spread(20.123, 10.0, 30.0, (30.0, 10.0, 20.123))


def test_percentiles_of_a_single_value_are_that_value() -> None:
    assert Percentiles.of([2.5]) == Percentiles(2.5, 2.5, 2.5, 2.5, 2.5)


def test_percentiles_do_not_depend_on_the_order() -> None:
    values = [float(value) for value in range(101)]
    assert Percentiles.of(values[::-1]) == Percentiles.of(values) == Percentiles(50, 90, 95, 99, 100)


@pytest.mark.parametrize(
    ("value", "short"),
    [
        pytest.param(0.0, 0.0, id="nothing"),
        pytest.param(-1.234567, -1.2346, id="negative"),
        pytest.param(1234567.0, 1234600.0, id="large"),
        pytest.param(1.234567e-7, 1.2346e-7, id="tiny"),
    ],
)
def test_figures_have_five_digits(value: float, short: float) -> None:
    assert rounded(value) == short


def test_the_warm_up_is_not_counted() -> None:
    calls = []
    windows = measure(lambda: calls.append(1), seconds=0.03)
    counted = sum(len(window.laps_ms) for window in windows)
    assert len(windows) == REPEATS
    assert 0 < counted < len(calls)


def test_work_that_is_longer_than_its_window_is_measured_whole() -> None:
    windows = measure(lambda: time.sleep(0.02), seconds=0.003, repeats=2)
    assert [len(window.laps_ms) for window in windows] == [1, 1]
    assert all(window.seconds >= 0.02 and window.laps_ms[0] >= 20 for window in windows)


def test_waiting_takes_time_but_no_cpu_time() -> None:
    windows = measure(lambda: time.sleep(0.01), seconds=0.15)
    assert sum(window.cpu_seconds for window in windows) < 0.5 * sum(window.seconds for window in windows)
