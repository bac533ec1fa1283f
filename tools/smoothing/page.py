"""The page of the study: Markdown, picture and JSON, all made of the same results."""

from collections import defaultdict
from pathlib import Path
from typing import Final

from engines.pages import render
from engines.study.results import RunSpread, bars, write_results
from tools.smoothing.comparison import NO_SMOOTHING, OURS, PLAIN, SCENE_RIGHT, SCENE_WRONG, SmoothingStudy
from tools.smoothing.scoring import Figures

FLICKER_FLOOR: Final = 0.1  # of the flicker without smoothing
DELAY_FLOOR_S: Final = 0.5
SHOWN: Final = (*PLAIN, OURS)


def write_page(found: SmoothingStudy, command: str, out: Path) -> Path:
    """Write ``smoothing.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    figures = _figures(found)
    wrong = {name: [RunSpread(100 * each[name].wrong, None) for each in figures.values()] for name in (OURS, *PLAIN)}
    picture = bars([f"{kind}, {noise}" for kind, noise in figures], wrong, "wrong label, % of the time")
    return write_results(out, "smoothing", found, page_of(found, command), picture)


def page_of(found: SmoothingStudy, command: str) -> str:
    """The Markdown of a study."""
    hard = {each.noise: each.hard for each in found.measured}
    return render(
        "tools.smoothing",
        "smoothing.md.j2",
        found=found,
        command=command,
        ours=OURS,
        shown=SHOWN,
        noises=[(which, [noise for noise in hard if hard[noise] is which]) for which in (False, True)],
        figures=_figures(found),
        missed=missed_floors,
        delay_floor_s=DELAY_FLOOR_S,
        right=SCENE_RIGHT,
        wrong=SCENE_WRONG,
    )


def missed_floors(figures: dict[str, Figures]) -> list[str]:
    """The floors that ours misses on a kind of noise, in words; ``figures`` are of every filter."""
    ours, plain = figures[OURS], {name: figures[name] for name in PLAIN}
    missed = []
    if ours.flicker > FLICKER_FLOOR * plain[NO_SMOOTHING].flicker:
        missed.append("flicker")
    if missing := [name for name, each in plain.items() if ours.wrong > each.wrong]:
        named = all(ours.wrong - ours.unnamed <= plain[name].wrong for name in missing)
        missed.append(f"wrong time ({', '.join(missing)}{'; not by wrong names' if named and ours.unnamed else ''})")
    if ours.delay_p95_s > DELAY_FLOOR_S:
        median = "" if ours.delay_s > DELAY_FLOOR_S else ", its median holds"
        missed.append(f"delay (95th percentile{median})")
    return missed


def _figures(found: SmoothingStudy) -> dict[tuple[str, str], dict[str, Figures]]:
    """Of every filter, by kind and noise."""
    figures: dict[tuple[str, str], dict[str, Figures]] = defaultdict(dict)
    for each in found.measured:
        figures[each.kind, each.noise][each.filter] = each.figures
    return figures
