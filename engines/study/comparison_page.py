"""The page of a comparison: what came of it over its seeds as Markdown, picture and JSON."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import msgspec

from engines.evaluation.bootstrap import CONFIDENCE, Interval
from engines.pages import render
from engines.spec import TaskName
from engines.study.comparison import JOINT, NetworkOutcome
from engines.study.metrics import DELTA_M, LOWER_IS_BETTER, WITH_LANDMARKS, Figures, delta_m, gain
from engines.study.results import RunSpread, bars, write_results
from engines.training.settings import TrainingSettings

LOW: Final = 0.05  # a figure that is nearly none


class FigureRow(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of the joint network and of the task's own."""

    figure: str
    lower_is_better: bool
    joint: RunSpread | None
    single: RunSpread | None  # None, too, where it takes more than one task
    gain: RunSpread | None  # a share of the single-task figure, seed by seed; above 0 the joint network is better
    joint_interval: Interval | None  # bootstrap, of the first seed
    single_interval: Interval | None


class MultiTask(msgspec.Struct, frozen=True, kw_only=True):
    """A finished comparison."""

    command: str
    config: str
    config_steps: int  # that the configuration asks for by itself
    seeds: tuple[int, ...]
    tasks: tuple[TaskName, ...]
    rows: tuple[FigureRow, ...]
    delta_m: RunSpread | None  # over the seeds
    delta_m_landmarks: RunSpread | None  # with the landmarks' error as a further figure
    runs: tuple[NetworkOutcome, ...]


def summarise(command: str, settings: TrainingSettings, outcomes: Sequence[NetworkOutcome]) -> MultiTask:
    """Everything over the seeds, of which each has all its runs.

    Args:
        command: that does all this again.
        settings: the joint configuration as it is written.
        outcomes: of all runs, seed by seed, the joint network's first.
    """
    seeds = tuple(dict.fromkeys(outcome.number for outcome in outcomes))
    joint = [outcome for outcome in outcomes if outcome.name == JOINT]
    apart = [
        dict(chain.from_iterable(it.figures.items() for it in outcomes if it.number == seed and it.name != JOINT))
        for seed in seeds
    ]
    pairs = [(each.figures, single) for each, single in zip(joint, apart, strict=True)]
    return MultiTask(
        command=command,
        config=settings.name,
        config_steps=settings.steps,
        seeds=seeds,
        tasks=joint[0].tasks,
        rows=tuple(_row(figure, pairs) for figure in joint[0].figures),
        delta_m=RunSpread.of(delta_m(*pair, DELTA_M) for pair in pairs),
        delta_m_landmarks=RunSpread.of(delta_m(*pair, WITH_LANDMARKS) for pair in pairs),
        runs=tuple(outcomes),
    )


def _row(figure: str, pairs: Sequence[tuple[Figures, Figures]]) -> FigureRow:
    """A figure over the (joint, single-task) figures of the seeds."""
    joint = [ours[figure] for ours, _ in pairs]
    single = [theirs[figure] for _, theirs in pairs if figure in theirs]
    gains = [gain(figure, one.value, other.value) for one, other in zip(single, joint, strict=False)]
    return FigureRow(
        figure=figure,
        lower_is_better=figure in LOWER_IS_BETTER,
        joint=RunSpread.of(each.value for each in joint),
        single=RunSpread.of(each.value for each in single),
        gain=RunSpread.of(gains),
        joint_interval=joint[0].interval,
        single_interval=single[0].interval if single else None,
    )


def write_page(found: MultiTask, out: Path) -> Path:
    """Write ``multi-task.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    rows = [row for row in found.rows if row.figure in WITH_LANDMARKS]
    series = {"one for all": [row.joint for row in rows], "one for each": [row.single for row in rows]}
    names = [f"{row.figure}{' (lower is better)' if row.lower_is_better else ''}" for row in rows]
    picture = bars(names, series, f"mean and deviation, {len(found.seeds)} seeds")
    return write_results(out, "multi-task", found, page_of(found), picture)


def page_of(found: MultiTask) -> str:
    """The Markdown of a finished comparison."""
    joint, *singles = [run for run in found.runs if run.number == found.seeds[0]]
    return render(
        "engines.study",
        "multi-task.md.j2",
        found=found,
        joint=joint,
        singles=singles,
        low=[row.figure for row in found.rows if row.figure in WITH_LANDMARKS and row.single and row.single.mean < LOW],
        least_figure=LOW,
        confidence=CONFIDENCE,
        macs_of=lambda runs: sum(sum(run.macs.values()) for run in runs),
    )
