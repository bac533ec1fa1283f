"""The pages of a comparison: Markdown, pictures and JSON, all made of the same results."""

from collections import defaultdict
from pathlib import Path

from engines.evaluation.bootstrap import CONFIDENCE
from engines.pages import render
from engines.study.comparison import JOINT
from engines.study.comparison_pictures import draw_bars, draw_cosines, draw_curves
from engines.study.comparison_results import MultiTask
from engines.study.metrics import DELTA_M
from engines.study.results import write_results
from engines.study.speed import EntrySpeed

LOW = 0.05  # a figure that is nearly none
DELTA_M_KEYS = {metric.key for metric in DELTA_M}


def write_pages(found: MultiTask, out: Path) -> Path:
    """Write ``multi-task.md``, its pictures and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    pictures = {"main": draw_bars(found), "curves": draw_curves(found)}
    if found.cosines:
        pictures["gradients"] = draw_cosines(found)
    return write_results(out, "multi-task", found, page_of(found), **pictures)


def page_of(found: MultiTask) -> str:
    """The Markdown of a finished comparison."""
    speeds: defaultdict[tuple[str, str], EntrySpeed | None] = defaultdict(lambda: None)
    speeds |= {(each.name, each.entry): each for each in found.speed.entries}
    first = [run for run in found.runs if run.seed == found.seeds[0]]
    return render(
        "engines.study",
        "multi-task.md.j2",
        found=found,
        joint=found.costs[0],
        singles=found.costs[1:],
        first=first,  # the runs of the first seed, the joint network's before the others
        sets=list(next(run for run in first if run.name == JOINT).seen),
        speeds=speeds,
        machines=dict.fromkeys(str(run.machine) for run in found.runs),
        low=[row.title for row in found.rows if row.key in DELTA_M_KEYS and row.single and row.single.mean < LOW],
        least_figure=LOW,
        confidence=CONFIDENCE,
        lasting=_lasting,
    )


def _lasting(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
