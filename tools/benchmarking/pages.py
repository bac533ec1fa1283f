"""A report, or what changed between two, as Markdown: for a file, the terminal, or one page of HTML."""

import base64
import re
from collections.abc import Mapping
from itertools import groupby
from typing import Final

from markdown_it import MarkdownIt
from msgspec import UNSET, structs
from rich.console import Console
from rich.markdown import Markdown

from engines.pages import Filter, render
from tools.benchmarking.compare import ReportComparison
from tools.benchmarking.figures import Percentiles, Spread
from tools.benchmarking.report import BenchmarkReport

WIDTH: Final = 140
MARKS: Final = re.compile(r"[<>|*`]")  # that mean something to Markdown


def page_of(report: BenchmarkReport, picture: str | None = None) -> str:
    """Return the Markdown of a report; with ``picture``, a path from the page, it has a title and shows it."""
    entries = () if report.engine is UNSET else report.engine.entries
    return render(
        "tools.benchmarking",
        "report.md.j2",
        FILTERS,
        report=report,
        picture=picture,
        tails=Percentiles.__struct_fields__,
        engines=groupby(entries, lambda it: f"{it.backend} {it.precision} on {it.device}"),
        latencies=_latencies(report),
        wanted=_wanted(report),
    )


def changes_of(comparison: ReportComparison) -> str:
    """Return the Markdown of what differs between two reports: first what was measured, then the figures."""
    return render("tools.benchmarking", "changes.md.j2", FILTERS, comparison=comparison)


def show(page: str, console: Console) -> None:
    """Print a page; where no terminal says how wide it is, as wide as its tables need."""
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    console.print(Markdown(page))


def to_html(report: BenchmarkReport, picture: bytes) -> str:
    """Return one page with nothing that it needs elsewhere; ``picture`` is a PNG."""
    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(page_of(report))
    data = base64.b64encode(picture).decode()
    return render("tools.benchmarking", "report.html.j2", body=body, picture=data)


def _latencies(report: BenchmarkReport) -> dict[str, Mapping[str, float]]:
    """Steps of a frame and their percentiles, as subscribers see them and as the run's own books have them."""
    if report.pipeline is UNSET:
        return {}
    live = report.pipeline.latency
    heard = {step: structs.asdict(tails) for step, tails in live.latency_ms.items()}
    own = live.runs[-1]["stages_ms"].items()
    return heard | {f"{step}, by its own books": tails for step, tails in own if step != "total"}


def _wanted(report: BenchmarkReport) -> float:
    """Frames a second of all cameras together; 0 where a file does not say its rate."""
    rates = [clip.frames_per_s or 0.0 for clip in report.clips]
    if report.pipeline is UNSET or not all(rates) or not rates:
        return 0.0
    return sum(rates[place % len(rates)] for place in range(report.pipeline.streams))


def spread(it: Spread) -> str:
    """Return the median, and the least and the greatest of several repeats."""
    if len(it.values) == 1:
        return number(it.median)
    return f"{number(it.median)} ({number(it.min)}-{number(it.max)})"


def number(value: float) -> str:
    """Return three digits that count, and never an exponent.

    >>> number(1234.5), number(12.345), number(0.01234), number(0.0)
    ('1234', '12.3', '0.012', '0')
    """
    if not value:
        return "0"
    size = abs(value)
    return f"{value:.{0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3}f}"


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {cause}" for cause, count in counts.items()) or "none"


def _plain(text: str) -> str:
    """Text in which nothing is a mark of Markdown."""
    return MARKS.sub(r"\\\g<0>", text)


FILTERS: Final[Mapping[str, Filter]] = {"spread": spread, "number": number, "counts": _counts, "plain": _plain}
