"""The pages of a study: Markdown, picture, CSV and JSON, all made of the same raw results."""

import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import msgspec
from matplotlib.figure import Figure

from engines.evaluation.bootstrap import CONFIDENCE
from engines.study.improvement import BASELINE, Outcome, Step
from engines.study.joint import JointOutcome, SceneFigure
from engines.study.results import write_results
from engines.study.writing import filled, in_code, short, write_text

NAME = "improvement"
COLOURS = {"baseline": "#8c8c8c", "alone": "#4c78a8", "together": "#1f3d63", "joint": "#59a14f"}


class Summary(msgspec.Struct, frozen=True, kw_only=True):
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
    summaries: tuple[Summary, ...]
    joint: JointOutcome
    runs: tuple[Outcome, ...]


def summarise(steps: Sequence[Step], outcomes: Sequence[Outcome]) -> tuple[Summary, ...]:
    """Mean and standard deviation over the seeds of each step; every step has at least one outcome."""
    by_step = {step.name: [outcome for outcome in outcomes if outcome.step == step.name] for step in steps}
    baseline = statistics.fmean(outcome.top1 for outcome in by_step[BASELINE])
    return tuple(_summary(step, by_step[step.name], baseline) for step in steps)


def _summary(step: Step, outcomes: Sequence[Outcome], baseline: float) -> Summary:
    top1 = [outcome.top1 for outcome in outcomes]
    return Summary(
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
    page = write_results(out, NAME, found, _bars(found), _markdown(found))
    write_text(out / f"{NAME}.csv", _csv(found.runs))
    return page


def _csv(runs: Sequence[Outcome]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = [name for name in Outcome.__struct_fields__ if name != "key"]
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


def _part(summary: Summary) -> str:
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


def _markdown(found: Improvement) -> str:
    return f"""# What improves a plain classifier

Written by the command below; a change by hand is lost with the next run of it.

```sh
{found.command}
```

![Accuracy of every step]({NAME}.png)

| step | what changes | accuracy | points over the baseline | in training | parameters | MACs | training, CPU s |
|---|---|---:|---:|---:|---:|---:|---:|
{_rows(found)}

{_about_networks(found)}

{_about_joint(found.joint)}

Every run: [{NAME}.csv]({NAME}.csv); everything: [{NAME}.json]({NAME}.json).
"""


def _about_networks(found: Improvement) -> str:
    pictures, baseline = found.runs[0].pictures, found.summaries[0].top1
    error = 100 * math.sqrt(baseline * (1 - baseline) / pictures)
    seeds = ", ".join(map(str, found.seeds))
    points = (
        f"Data: {in_code(found.train)} for training, {in_code(found.validation)} for the figures; {len(found.labels)} "
        f"classes: {', '.join(found.labels)}. The plain networks see whole pictures resized to a square.",
        "Every step changes what its line says of the baseline, and nothing else. Accuracy is the mean and the sample "
        f"standard deviation over the seeds {seeds}, after the last epoch, on {pictures} validation pictures.",
        "The plain networks were not trained on the validation pictures, and nothing was chosen on them: the steps and "
        "their values are declared in the code, all of them are shown, and no epoch is picked.",
        f"Other pictures would move all figures: the baseline's standard error from having just {pictures} is "
        f"{error:.1f} points, and the deviation over seeds does not contain it.",
        "Accuracy in training is that of the last epoch, on the pictures as they were learnt (augmented, with "
        "dropout): where it is far above the accuracy, the network memorises.",
        "Multiply-accumulates (MACs) are those of convolutions and fully connected layers, for one picture. CPU "
        "seconds are of all threads together, and only compare the steps with each other.",
    )
    return "\n".join(filled(f"* {point}") for point in points)


def _rows(found: Improvement) -> str:
    rows = [
        f"| {each.step} | {each.change} | {_with_std(each)} | {_points(each.gain)} | {each.train_top1:.3f} | "
        f"{short(each.parameters)} | {short(each.macs)} | {each.cpu_seconds:.0f} |"
        for each in found.summaries
    ]
    joint, baseline = found.joint, found.summaries[0].top1
    rows += [
        f"| {_joint_name(joint, figure)} | a task of the joint network, {joint.size[0]}x{joint.size[1]} pixels | "
        f"{_with_interval(figure)} | {_points(figure.top1 - baseline)} | | "
        f"{short(joint.parameters)} | {short(joint.macs)} | |"
        for figure in _figures(joint)
    ]
    return "\n".join(rows)


def _with_std(summary: Summary) -> str:
    return f"{summary.top1:.3f}" + ("" if summary.top1_std is None else f" ± {summary.top1_std:.3f}")


def _with_interval(figure: SceneFigure) -> str:
    interval = figure.interval
    return f"{figure.top1:.3f}" + ("" if interval is None else f" ({interval.low:.3f} to {interval.high:.3f})")


def _points(gain: float) -> str:
    return f"{100 * gain:+.1f}"


def _about_joint(joint: JointOutcome) -> str:
    as_it_is, restricted = joint.as_it_is, joint.restricted
    return filled(
        f"The last lines are the released model `{joint.model}` ({joint.fingerprint}), one network for "
        f"{', '.join(joint.tasks)}, through its exported f32 form and on the same pictures: choosing among all "
        f"{as_it_is.labels} scenes that it knows ({as_it_is.correct} of {as_it_is.pictures} right), and among these "
        f"{restricted.labels} alone ({restricted.correct} right). In brackets: a {CONFIDENCE:.0%} bootstrap interval "
        "over the pictures. Its parameters and MACs are those that the scenes need, trunk and scene head; with all "
        f"tasks it has {short(joint.whole_parameters)} parameters, and its frame entry takes "
        f"{short(joint.whole_macs)} MACs. Its model card says on what it was trained; where its run was validated as "
        "it went, these pictures had a part in choosing it."
    )
