"""The pages of the study: Markdown, picture and JSON, all made of the same results."""

from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from engines.pages import render
from engines.study.results import write_results
from pipeline.identity.naming import LEAD
from pipeline.identity.stage import EARLY_S, KNOWN_S
from tools.recognition.methods import METHODS, OURS, SINGLE
from tools.recognition.splits import SETTINGS
from tools.recognition.study import VIEWS, MethodRow, RecognitionStudy

FLOOR: Final = 0.5  # of the errors of single frames


def write_pages(found: RecognitionStudy, command: str, out: Path) -> Path:
    """Write ``recognition.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    return write_results(out, "recognition", found, page_of(found, command), main=_bars(found))


def page_of(found: RecognitionStudy, command: str) -> str:
    """The Markdown of a study."""
    groups = [(setting, views) for setting in SETTINGS for views in VIEWS]
    pairs = [(_row(found, *group, OURS), _row(found, *group, SINGLE)) for group in groups]
    return render(
        "tools.recognition",
        "recognition.md.j2",
        found=found,
        command=command,
        ours=OURS,
        single=SINGLE,
        settings=SETTINGS,
        pairs=pairs,
        halved=[f"{ours.setting}, {ours.views} enrolled" for ours, single in pairs if _halved(ours, single)],
        lead=LEAD,
        known_s=KNOWN_S,
        early_s=EARLY_S,
    )


def _halved(ours: MethodRow, single: MethodRow) -> bool:
    """Whether half the errors of single frames are reached."""
    errors = ((ours.rank1_error, single.rank1_error), (ours.missed, single.missed))
    return all(FLOOR * theirs.mean >= mine.mean for mine, theirs in errors)


def _row(found: RecognitionStudy, setting: str, views: int, method: str) -> MethodRow:
    return next(it for it in found.rows if (it.setting, it.views, it.method) == (setting, views, method))


def _bars(found: RecognitionStudy) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(METHODS)
    groups = [(setting, views) for setting in SETTINGS for views in VIEWS]
    for number, method in enumerate(METHODS):
        rows = [_row(found, setting, views, method) for setting, views in groups]
        axes.bar(
            [group + number * width for group in range(len(groups))],
            [100 * row.missed.mean for row in rows],
            width,
            yerr=[100 * (row.missed.std or 0.0) for row in rows],
            error_kw={"linewidth": 0.8},
            label=method,
            color="#1f3d63" if method == OURS else None,
        )
    axes.set_xticks(
        [group + 0.4 - width / 2 for group in range(len(groups))],
        [f"{setting},\n{views} enrolled" for setting, views in groups],
        fontsize=8,
    )
    axes.set_ylabel("enrolled people missed, %")
    axes.legend(fontsize=7, ncols=len(METHODS))
    return figure
