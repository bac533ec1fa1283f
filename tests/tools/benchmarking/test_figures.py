import time

from tools.benchmarking.figures import REPEATS, Percentiles, measure, rounded


def test_percentiles_do_not_depend_on_the_order() -> None:
    assert Percentiles.of([2.5]) == Percentiles(2.5, 2.5, 2.5, 2.5, 2.5)
    values = [float(value) for value in range(101)]
    assert Percentiles.of(values[::-1]) == Percentiles.of(values) == Percentiles(50, 90, 95, 99, 100)


def test_figures_have_five_digits() -> None:
    assert [rounded(it) for it in (0.0, -1.234567, 1234567.0, 1.234567e-7)] == [0.0, -1.2346, 1234600.0, 1.2346e-7]


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
