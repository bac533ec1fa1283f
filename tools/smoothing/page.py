"""The pages of the study: Markdown, picture and JSON, all made of the same results."""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engines.pages import render
from engines.study.results import write_results
from tools.smoothing.comparison import KINDS, SCENE_RIGHT, SCENE_WRONG, SmoothingStudy
from tools.smoothing.filters import NO_SMOOTHING, OURS, PLAIN, Kind
from tools.smoothing.scoring import Figures

FLICKER_FLOOR: Final = 0.1  # of the flicker without smoothing
DELAY_FLOOR_S: Final = 0.5
SHOWN: Final = (*PLAIN, OURS)
COLOURS: Final = ("#b8b8b8", "#d9a441", "#6aa5c9", "#1f3d63")  # of those
MIN_FLICKER: Final = 0.01  # changes a minute: what a logarithmic axis shows of none at all


def write_pages(found: SmoothingStudy, command: str, out: Path) -> Path:
    """Write ``smoothing.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    return write_results(out, "smoothing", found, page_of(found, command), main=_picture(found))


def page_of(found: SmoothingStudy, command: str) -> str:
    """The Markdown of a study."""
    return render(
        "tools.smoothing",
        "smoothing.md.j2",
        found=found,
        command=command,
        ours=OURS,
        shown=SHOWN,
        noises=[(hard, _noises(found, hard=hard)) for hard in (False, True)],
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


def _noises(found: SmoothingStudy, *, hard: bool) -> list[str]:
    return list(dict.fromkeys(each.noise for each in found.measured if each.hard is hard))


def _picture(found: SmoothingStudy) -> Figure:
    """Wrong time, flicker and delay on each kind of noise: a row for labels, one for scenes."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(len(KINDS), 3)
    for (wrong, flicker, delay), kind in zip(axes, KINDS, strict=True):
        _bars(wrong, found, kind, lambda it: 100 * it.wrong)
        _bars(flicker, found, kind, lambda it: max(it.flicker, MIN_FLICKER))
        _bars(delay, found, kind, lambda it: it.delay_p95_s)
        wrong.set_title(f"{kind}: wrong label, % of the time", fontsize=9)
        flicker.set_title(f"{kind}: flicker, changes a minute", fontsize=9)
        delay.set_title(f"{kind}: delay of a true change, s, 95th percentile", fontsize=9)
        flicker.set_yscale("log")
        delay.axhline(DELAY_FLOOR_S, color="#a33", linewidth=0.8)
    axes[0][0].legend(fontsize=7)
    return figure


def _bars(axes: Axes, found: SmoothingStudy, kind: Kind, value_of: Callable[[Figures], float]) -> None:
    figures = _figures(found)
    noises = [*_noises(found, hard=False), *_noises(found, hard=True)]
    width = 0.8 / len(SHOWN)
    for index, (name, colour) in enumerate(zip(SHOWN, COLOURS, strict=True)):
        values = [value_of(figures[kind, noise][name]) for noise in noises]
        axes.bar([place + index * width for place in range(len(noises))], values, width, label=name, color=colour)
    axes.set_xticks([place + 0.3 for place in range(len(noises))], noises, rotation=40, ha="right", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
