"""The pictures of a comparison: the figures side by side, their curves, and how the tasks' gradients agree."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engines.evaluation.bootstrap import CONFIDENCE
from engines.study.comparison import JOINT, Name
from engines.study.comparison_results import MetricRow, MultiTask
from engines.study.metrics import HEADLINES
from engines.training.curves import Series

JOINT_COLOUR, SINGLE_COLOUR = "#1f3d63", "#e1812c"
BAR = 0.36


def draw_bars(found: MultiTask) -> Figure:
    """The headline figures of the joint network and of the tasks' own, with intervals and every seed."""
    keys = {metric.key for metric in HEADLINES}
    rows = [row for row in found.rows if row.key in keys and row.joint is not None and row.single is not None]
    figure = Figure(figsize=(1.5 * max(len(rows), 3) + 1, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        _pair(axes, place, row, found)
    axes.set_xticks(range(len(rows)), [_label(row) for row in rows], fontsize=9)
    axes.set(ylim=(0, 1.12), ylabel="figure")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    for colour, name in ((JOINT_COLOUR, "one network for all tasks"), (SINGLE_COLOUR, "a network for each task")):
        axes.bar(0, 0, color=colour, label=name)
    axes.legend(fontsize=9)
    axes.set_title(
        f"bars: mean over the seeds; dots: each seed; lines: {CONFIDENCE:.0%} interval of the first seed",
        fontsize=9,
    )
    return figure


def _label(row: MetricRow) -> str:
    words = row.title.replace(", of the box", "")
    return words.replace(" ", "\n", 1) + ("\n(lower is better)" if row.lower_is_better else "")


def _pair(axes: Axes, place: int, row: MetricRow, found: MultiTask) -> None:
    task = row.key.partition(".")[0]
    sides = (
        (-BAR / 2, row.joint, row.joint_interval, JOINT_COLOUR, JOINT),
        (BAR / 2, row.single, row.single_interval, SINGLE_COLOUR, task),
    )
    for offset, spread, interval, colour, name in sides:
        assert spread is not None
        centre = place + offset
        axes.bar(centre, spread.mean, BAR, color=colour)
        if interval is not None:
            axes.vlines(centre, interval.low, interval.high, color="black", linewidth=1.2)
        figures = (run.figures[row.key].value for run in found.runs if run.name == name)
        values = [value for value in figures if value is not None]
        axes.plot([centre + BAR / 4] * len(values), values, "o", color="white", markeredgecolor="black", markersize=4)
        top = max([spread.mean, *values, interval.high if interval else 0.0])
        axes.text(centre, top + 0.015, f"{spread.mean:.3f}", ha="center", fontsize=8)


def draw_curves(found: MultiTask) -> Figure:
    """By task: the validation score over the steps, or the loss in training where there was no validation."""
    validated = found.validated
    columns = min(2, len(found.tasks))
    rows = -(-len(found.tasks) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.2 * rows), layout="constrained")
    for number, task in enumerate(found.tasks, start=1):
        axes = figure.add_subplot(rows, columns, number)
        name = f"score.{task}" if validated else f"{task}.total"
        sides: tuple[tuple[Name, str, str], ...] = (
            (JOINT, JOINT_COLOUR, "one network for all"),
            (task, SINGLE_COLOUR, "its own"),
        )
        for whose, colour, label in sides:
            _lines(axes, [run.curves for run in found.runs if run.name == whose], name, colour, label)
        axes.set(title=task, xlabel="step", ylabel="validation score" if validated else "loss in training")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    return figure


def _lines(axes: Axes, runs: list[Series], name: str, colour: str, label: str) -> None:
    """One line for each seed."""
    for place, curves in enumerate(runs):
        if name in curves:
            axes.plot(*curves[name], color=colour, linewidth=1.2, alpha=0.8, label=label if not place else None)


def draw_cosines(found: MultiTask) -> Figure:
    """Cosines of the tasks' gradients on the trunk, as a heat map."""
    tasks = found.tasks
    names: list[str] = list(tasks)
    values = np.full((len(tasks), len(tasks)), np.nan)
    np.fill_diagonal(values, 1.0)
    for pair, cosine in found.cosines.items():
        one, other = (names.index(name) for name in pair.split("."))
        values[one, other] = values[other, one] = cosine
    figure = Figure(figsize=(4.8, 4.0), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(values, vmin=-1, vmax=1, cmap="RdBu")
    axes.set_xticks(range(len(tasks)), tasks)
    axes.set_yticks(range(len(tasks)), tasks)
    for (row, column), value in np.ndenumerate(values):
        dark = abs(value) > 0.6
        text = "–" if np.isnan(value) else f"{value:.2f}"
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    figure.colorbar(image, label="cosine of the gradients on the trunk")
    return figure
