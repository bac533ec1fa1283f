"""How every study leaves its results: one page, its picture and the JSON that both were made of."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from matplotlib.figure import Figure

from engines.evaluation.plots import save
from engines.files import write_whole

COLOURS = ("#1f3d63", "#e1812c", "#6aa5c9", "#b8b8b8")  # of the series of bars, in turn


class RunSpread(msgspec.Struct, frozen=True):
    """A figure over seeds or folds."""

    mean: float
    std: float | None  # sample standard deviation; None of a single value

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "RunSpread | None":
        """The spread of the values; None if one of them is missing.

        >>> RunSpread.of([1.0, 3.0]), RunSpread.of([1.0, None])
        (RunSpread(mean=2.0, std=1.4142135623730951), None)
        """
        every = list(values)
        known = [value for value in every if value is not None]
        if not known or len(known) < len(every):
            return None
        return cls(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None)


def bars(groups: Sequence[str], series: Mapping[str, Sequence[RunSpread | None]], what: str) -> Figure:
    """Draw a bar and its deviation for each group of each series; what is missing has none.

    Args:
        groups: their names.
        series: by name, the figure of each group.
        what: the figures' name and unit.
    """
    width_inches = min(14.0, max(6.0, 1.0 + 0.35 * len(groups) * (len(series) + 1)))
    figure = Figure(figsize=(width_inches, 4.2), layout="constrained")
    axes, width = figure.add_subplot(), 0.8 / len(series)
    for number, (name, values) in enumerate(series.items()):
        shown = [(place + number * width, it) for place, it in enumerate(values) if it is not None]
        axes.bar(
            [place for place, _ in shown],
            [it.mean for _, it in shown],
            width,
            yerr=[it.std or 0.0 for _, it in shown],
            error_kw={"linewidth": 0.8},
            label=name,
            color=COLOURS[number % len(COLOURS)],
        )
    middle = 0.4 - width / 2
    axes.set_xticks([place + middle for place in range(len(groups))], groups, rotation=30, ha="right", fontsize=8)
    axes.set_ylabel(what)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    if len(series) > 1:
        axes.legend(fontsize=8)
    return figure


def write_results(out: Path, name: str, found: msgspec.Struct, page: str, picture: Figure) -> Path:
    """Write ``name.md``, ``.png`` and ``.json`` into the folder ``out``; each replaces the old one when it is whole.

    Args:
        out: made where it is missing.
        name: of the files.
        found: what the page shows.
        page: its Markdown.
        picture: of the figures.

    Returns:
        The path of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    save(picture, out / f"{name}.png")
    write_whole(out / f"{name}.json", msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    write_whole(out / f"{name}.md", page.encode())
    return out / f"{name}.md"
