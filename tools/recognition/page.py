"""The page of the study: Markdown, picture and JSON, all made of the same results."""

from pathlib import Path
from typing import Final

from engines.pages import render
from engines.study.results import bars, write_results
from pipeline.identity.naming import LEAD
from pipeline.identity.stage import EARLY_S, KNOWN_S
from tools.recognition.deals import SETTINGS
from tools.recognition.study import METHODS, OURS, SINGLE, MethodRow, RecognitionStudy

FLOOR: Final = 0.5  # of the errors of single frames


def write_page(found: RecognitionStudy, command: str, out: Path) -> Path:
    """Write ``recognition.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    groups = [f"{row.setting}, {row.views} enrolled" for row in found.rows if row.method == OURS]
    series = {method: [row.missed for row in found.rows if row.method == method] for method in reversed(METHODS)}
    picture = bars(groups, series, "enrolled people missed, share")
    return write_results(out, "recognition", found, page_of(found, command), picture)


def page_of(found: RecognitionStudy, command: str) -> str:
    """The Markdown of a study."""
    ours, single = ([row for row in found.rows if row.method == method] for method in (OURS, SINGLE))
    pairs = list(zip(ours, single, strict=True))
    return render(
        "tools.recognition",
        "recognition.md.j2",
        found=found,
        command=command,
        ours=OURS,
        single=SINGLE,
        settings=SETTINGS,
        pairs=pairs,
        halved=[f"{mine.setting}, {mine.views} enrolled" for mine, theirs in pairs if _halved(mine, theirs)],
        lead=LEAD,
        known_s=KNOWN_S,
        early_s=EARLY_S,
    )


def _halved(ours: MethodRow, single: MethodRow) -> bool:
    """Whether half the errors of single frames are reached."""
    errors = ((ours.rank1_error, single.rank1_error), (ours.missed, single.missed))
    return all(FLOOR * theirs.mean >= mine.mean for mine, theirs in errors)
