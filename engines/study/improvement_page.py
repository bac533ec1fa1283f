"""The pages of a study: Markdown, picture, CSV and JSON, all made of the same raw results."""

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from matplotlib.figure import Figure

from engines.evaluation.bootstrap import CONFIDENCE
from engines.pages import render
from engines.study.improvement import BASELINE, Step, StepOutcome
from engines.study.joint import JointOutcome, SceneFigure
from engines.study.results import write_results
from engines.study.writing import write_text

COLOURS = {"baseline": "#8c8c8c", "alone": "#4c78a8", "together": "#1f3d63", "joint": "#59a14f"}


class StepSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A step over its seeds."""

    step: str
    change: str
    top1: float  # mean
    top1_std: float | None  # sample standard deviation; None of a single seed
    gain: float  # of the mean over the baseline's
    train_top1: float
    parameters: int
    macs: int
    cpu_seconds: float


class Improvement(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the pages show."""

    command: str
    train: tuple[str, ...]  # folders of the data
    validation: tuple[str, ...]
    labels: tuple[str, ...]
    seeds: tuple[int, ...]
    summaries: tuple[StepSummary, ...]
    joint: JointOutcome
    runs: tuple[StepOutcome, ...]


def summarise(steps: Sequence[Step], outcomes: Sequence[StepOutcome]) -> tuple[StepSummary, ...]:
    """Mean and standard deviation over the seeds of each step; every step has at least one outcome."""
    by_step = {step.name: [outcome for outcome in outcomes if outcome.step == step.name] for step in steps}
    baseline = statistics.fmean(outcome.top1 for outcome in by_step[BASELINE])
    return tuple(_summary(step, by_step[step.name], baseline) for step in steps)


def _summary(step: Step, outcomes: Sequence[StepOutcome], baseline: float) -> StepSummary:
    top1 = [outcome.top1 for outcome in outcomes]
    return StepSummary(
        step=step.name,
        change=step.change,
        top1=statistics.fmean(top1),
        top1_std=statistics.stdev(top1) if len(top1) > 1 else None,
        gain=statistics.fmean(top1) - baseline,
        train_top1=statistics.fmean(outcome.train_top1 for outcome in outcomes),
        parameters=outcomes[0].parameters,
        macs=outcomes[0].macs,
        cpu_seconds=statistics.fmean(outcome.cpu_seconds for outcome in outcomes),
    )


def write_pages(found: Improvement, out: Path) -> Path:
    """Write ``improvement.md``, ``.png``, ``.csv`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    page = write_results(out, "improvement", found, page_of(found), main=_bars(found))
    write_text(out / "improvement.csv", _csv(found.runs))
    return page


def _csv(runs: Sequence[StepOutcome]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [name for name in StepOutcome.__struct_fields__ if name != "key"]
    writer.writerow(columns)
    writer.writerows([getattr(run, name) for name in columns] for run in runs)
    return text.getvalue()


def _bars(found: Improvement) -> Figure:
    """One bar for each row of the table, in its order."""
    rows: list[tuple[str, float, tuple[float, float], str]] = [
        (each.step, each.top1, (each.top1_std or 0.0, each.top1_std or 0.0), COLOURS[_part(each)])
        for each in found.summaries
    ]
    rows += [(_joint_name(found.joint, it), it.top1, _reach(it), COLOURS["joint"]) for it in _figures(found.joint)]
    names, values, errors, colours = zip(*rows, strict=True)
    figure = Figure(figsize=(8.5, 0.42 * len(rows) + 1.3), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(rows))
    axes.barh(places, values, color=colours, xerr=list(zip(*errors, strict=True)), ecolor="black", capsize=3)
    for place, value, error in zip(places, values, errors, strict=True):
        axes.text(value + error[1] + 0.01, place, f"{value:.3f}", va="center", fontsize=9)
    axes.axvline(found.summaries[0].top1, color="grey", linestyle=":", linewidth=1)
    axes.set_yticks(places, names)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.05), xlabel=f"accuracy on {found.joint.restricted.pictures} validation pictures")
    axes.set_title(
        f"error bars: deviation over {len(found.seeds)} seeds; of the released model the {CONFIDENCE:.0%} interval",
        fontsize=9,
    )
    return figure


def _part(summary: StepSummary) -> str:
    if summary.step == BASELINE:
        return BASELINE
    return "together" if summary.step.startswith("together") else "alone"


def _figures(joint: JointOutcome) -> tuple[SceneFigure, SceneFigure]:
    return joint.as_it_is, joint.restricted


def _joint_name(joint: JointOutcome, figure: SceneFigure) -> str:
    among = "all" if figure is joint.as_it_is else "these"
    return f"model {joint.model}, {among} {figure.labels} scenes"


def _reach(figure: SceneFigure) -> tuple[float, float]:
    """How far the interval goes below and above the figure."""
    if figure.interval is None:
        return 0.0, 0.0
    return max(0.0, figure.top1 - figure.interval.low), max(0.0, figure.interval.high - figure.top1)


def page_of(found: Improvement) -> str:
    """The Markdown of a study."""
    joint = found.joint
    return render(
        "engines.study",
        "improvement.md.j2",
        found=found,
        joint=joint,
        joint_names=[_joint_name(joint, figure) for figure in _figures(joint)],
        pictures=found.runs[0].pictures,
        confidence=CONFIDENCE,
    )
