import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.study.metrics import DELTA_M, LOWER_IS_BETTER, SHOWN, WITH_LANDMARKS, Figures, ScoredFigure, delta_m
from engines.study.results import RunSpread
from engines.tasks import REGISTRY

shares = st.floats(0.01, 1.0)


def figures(**values: float | None) -> Figures:
    return {name.replace("__", "."): ScoredFigure(value, None) for name, value in values.items()}


SINGLE = figures(objects__ap50=0.4, faces__ap50=0.8, scene__top1=0.5, identity__accuracy=0.8, faces__nme_box=0.1)


def test_delta_m_is_what_one_calculates_by_hand() -> None:
    joint = figures(objects__ap50=0.5, faces__ap50=0.6, scene__top1=0.6, identity__accuracy=0.8, faces__nme_box=0.05)
    assert delta_m(joint, SINGLE, DELTA_M) == pytest.approx((0.25 - 0.25 + 0.2 + 0.0) / 4)


def test_an_error_that_halves_is_a_gain_of_a_half() -> None:
    joint = SINGLE | figures(faces__nme_box=0.05)
    assert delta_m(joint, SINGLE, DELTA_M) == 0.0
    assert delta_m(joint, SINGLE, WITH_LANDMARKS) == pytest.approx(0.5 / 5)


def test_tasks_that_are_not_compared_are_left_out() -> None:
    joint, single = figures(scene__top1=0.6, identity__accuracy=0.9), figures(scene__top1=0.5)
    assert delta_m(joint, single, DELTA_M) == pytest.approx(0.2)


@pytest.mark.parametrize("nothing", [None, 0.0], ids=["none", "zero"])
def test_there_is_no_delta_m_over_a_single_task_figure_of(nothing: float | None) -> None:
    assert delta_m(SINGLE, SINGLE | figures(objects__ap50=nothing), DELTA_M) is None


@given(st.lists(shares, min_size=len(DELTA_M), max_size=len(DELTA_M)), st.floats(0.5, 2.0))
def test_delta_m_of_figures_that_all_change_alike_is_that_change(values: list[float], factor: float) -> None:
    single = {figure: ScoredFigure(value, None) for figure, value in zip(DELTA_M, values, strict=True)}
    joint = {key: ScoredFigure(factor * (figure.value or 0.0), None) for key, figure in single.items()}
    assert delta_m(joint, single, DELTA_M) == pytest.approx(factor - 1)


def test_delta_m_has_one_figure_of_each_task() -> None:
    assert DELTA_M[:4] == ("objects.ap50", "faces.ap50", "scene.top1", "identity.accuracy")
    assert [figure.partition(".")[0] for figure in DELTA_M] == [task.name for task in REGISTRY]
    shown = {f"{task}.{name}" for task, names in SHOWN.items() for name in names}
    assert {*DELTA_M[:4], *WITH_LANDMARKS[-1:], *LOWER_IS_BETTER} < shown


def test_a_spread_needs_a_figure_of_every_seed() -> None:
    assert RunSpread.of([1.0, 2.0, 3.0]) == RunSpread(2.0, 1.0)
    assert RunSpread.of([1.0]) == RunSpread(1.0, None)
    assert RunSpread.of([1.0, None]) is None
    assert RunSpread.of([]) is None
