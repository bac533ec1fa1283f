"""The page of a cross-validation: Markdown, picture and JSON, all made of the same finished folds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import t as student

from engines.evaluation.bootstrap import CONFIDENCE
from engines.evaluation.report import HEADLINES
from engines.pages import render
from engines.study.crossval import FoldOutcome
from engines.study.results import write_results

LOWER_IS_BETTER = {f"{line.task}.{line.figure}": line.lower_is_better for line in HEADLINES}
PANEL_INCHES = 3.4


class FigureSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a variant over the folds."""

    variant: str
    figure: str
    mean: float
    std: float | None  # sample standard deviation; None of a single fold
    by_fold: dict[int, float]  # folds that have the figure


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant brings over the first one, fold by fold."""

    variant: str
    figure: str
    mean: float  # of the differences
    std: float | None  # of the differences
    half_width: float | None  # of the confidence interval of their mean
    exceeds: bool  # whether the interval leaves 0 out
    better: bool  # whether the mean is on the good side


class CrossValidated(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page shows."""

    command: str
    config: str
    folds: int
    seed: int
    stop_at: int | None
    variants: tuple[str, ...]
    summaries: tuple[FigureSummary, ...]
    differences: tuple[Difference, ...]
    outcomes: tuple[FoldOutcome, ...]


def summarise(outcomes: Sequence[FoldOutcome]) -> tuple[FigureSummary, ...]:
    """Mean and standard deviation over the folds of each figure of each variant, in the order of the headlines."""
    found = []
    for variant in dict.fromkeys(outcome.variant for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.variant == variant]
        for figure in LOWER_IS_BETTER:
            values = {outcome.fold: outcome.figures[figure] for outcome in own if figure in outcome.figures}
            if values:
                mean, std = _spread(list(values.values()))
                found.append(FigureSummary(variant=variant, figure=figure, mean=mean, std=std, by_fold=values))
    return tuple(found)


def differences(summaries: Sequence[FigureSummary], folds: int) -> tuple[Difference, ...]:
    """How every later variant differs from the first one, in the folds that both have.

    The interval is that of the corrected resampled t-test, since the training parts of the folds overlap: the variance
    of the mean is var * (1 / n + share that is tested / share that is trained on), with n - 1 degrees of freedom
    (Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003).
    """
    first = {each.figure: each for each in summaries if each.variant == summaries[0].variant}
    found = []
    for each in summaries:
        base = first.get(each.figure)
        if base is None or each.variant == base.variant:
            continue
        gaps = [value - base.by_fold[fold] for fold, value in each.by_fold.items() if fold in base.by_fold]
        if gaps:
            found.append(_difference(each, gaps, folds))
    return tuple(found)


def _difference(summary: FigureSummary, gaps: Sequence[float], folds: int) -> Difference:
    mean, std = _spread(gaps)
    half = None
    if std is not None:
        quantile = float(student.ppf((1 + CONFIDENCE) / 2, len(gaps) - 1))
        half = quantile * std * math.sqrt(1 / len(gaps) + 1 / (folds - 1))
    return Difference(
        variant=summary.variant,
        figure=summary.figure,
        mean=mean,
        std=std,
        half_width=half,
        exceeds=half is not None and abs(mean) > half,
        better=(mean < 0) == LOWER_IS_BETTER[summary.figure] and mean != 0,
    )


def _spread(values: Sequence[float]) -> tuple[float, float | None]:
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def write_page(found: CrossValidated, out: Path) -> Path:
    """Write ``crossval.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    return write_results(out, "crossval", found, page_of(found), main=_plot(found))


def _plot(found: CrossValidated) -> Figure:
    """A panel for each figure: a line for each fold over the variants, and their means."""
    figures = list(dict.fromkeys(each.figure for each in found.summaries))
    figure = Figure(figsize=(PANEL_INCHES * max(1, len(figures)), PANEL_INCHES), layout="constrained")
    for number, name in enumerate(figures, start=1):
        own = {each.variant: each for each in found.summaries if each.figure == name}
        _panel(figure.add_subplot(1, len(figures), number), name, own, found)
    figure.suptitle(f"{found.folds} folds: each a line; mean and standard deviation in black", fontsize=9)
    return figure


def _panel(axes: Axes, name: str, own: Mapping[str, FigureSummary], found: CrossValidated) -> None:
    shown = [variant for variant in found.variants if variant in own]
    for fold in range(found.folds):
        rows = [(place, own[variant].by_fold.get(fold)) for place, variant in enumerate(shown)]
        known = [(place, value) for place, value in rows if value is not None]
        axes.plot(*zip(*known, strict=True), marker=".", linewidth=1, alpha=0.6) if known else None
    means, spreads = [own[variant].mean for variant in shown], [own[variant].std or 0.0 for variant in shown]
    axes.errorbar(range(len(shown)), means, yerr=spreads, fmt="_", color="black", markersize=14, capsize=4)
    axes.set_xticks(range(len(shown)), shown, rotation=20, ha="right", fontsize=7)
    axes.set_xlim(-0.5, len(shown) - 0.5)
    axes.set_title(f"{name}{', lower is better' if LOWER_IS_BETTER[name] else ''}", fontsize=9)


def page_of(found: CrossValidated) -> str:
    """The Markdown of a cross-validation."""
    return render(
        "engines.study",
        "crossval.md.j2",
        found=found,
        some=found.outcomes[0],
        confidence=CONFIDENCE,
        folds=range(found.folds),
    )
