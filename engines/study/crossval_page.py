"""The page of a cross-validation: Markdown, picture and JSON, all made of the same finished folds."""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
from scipy.special import stdtrit  # scipy.stats takes ten times as long to import

from engines.evaluation.bootstrap import CONFIDENCE
from engines.evaluation.report import HEADLINES
from engines.pages import render
from engines.study.crossval import FoldOutcome
from engines.study.metrics import LOWER_IS_BETTER
from engines.study.results import RunSpread, bars, write_results


class FigureSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a variant over the folds."""

    variant: str
    figure: str
    spread: RunSpread
    by_fold: dict[int, float]  # folds that have the figure


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant brings over the first one, fold by fold."""

    variant: str
    figure: str
    spread: RunSpread  # of the differences
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
    for variant in dict.fromkeys(outcome.name for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.name == variant]
        for figure in (f"{line.task}.{line.figure}" for line in HEADLINES):
            values = {outcome.number: outcome.figures[figure] for outcome in own if figure in outcome.figures}
            if spread := RunSpread.of(values.values()):
                found.append(FigureSummary(variant=variant, figure=figure, spread=spread, by_fold=values))
    return tuple(found)


def differences(summaries: Sequence[FigureSummary], folds: int) -> tuple[Difference, ...]:
    """How every later variant differs from the first one, in the folds that both have.

    The interval is that of the corrected resampled t-test, since the training parts of the folds overlap: the variance
    of the mean is var * (1 / n + share that is tested / share that is trained on), with n - 1 degrees of freedom
    (Nadeau and Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003).
    """
    first = {each.figure: each.by_fold for each in summaries if each.variant == summaries[0].variant}
    found = []
    for each in summaries:
        base = first.get(each.figure, {}) if each.variant != summaries[0].variant else {}
        gaps = [value - base[fold] for fold, value in each.by_fold.items() if fold in base]
        if spread := RunSpread.of(gaps):
            found.append(_difference(each, spread, len(gaps), folds))
    return tuple(found)


def _difference(summary: FigureSummary, gaps: RunSpread, count: int, folds: int) -> Difference:
    half = None
    if gaps.std is not None:
        quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
        half = quantile * gaps.std * math.sqrt(1 / count + 1 / (folds - 1))
    return Difference(
        variant=summary.variant,
        figure=summary.figure,
        spread=gaps,
        half_width=half,
        exceeds=half is not None and abs(gaps.mean) > half,
        better=(gaps.mean < 0) == (summary.figure in LOWER_IS_BETTER) and gaps.mean != 0,
    )


def write_page(found: CrossValidated, out: Path) -> Path:
    """Write ``crossval.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    figures = list(dict.fromkeys(each.figure for each in found.summaries))
    spreads = {(each.variant, each.figure): each.spread for each in found.summaries}
    series = {variant: [spreads.get((variant, figure)) for figure in figures] for variant in found.variants}
    picture = bars(figures, series, f"mean and deviation over {found.folds} folds")
    return write_results(out, "crossval", found, page_of(found), picture)


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
