"""The pages of the comparison: Markdown, picture and JSON, all made of the same results."""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from engines.pages import render
from engines.study.results import write_results
from tools.tracking.comparison import Compared, TrackerComparison
from tools.tracking.ours import OURS


def write_pages(found: TrackerComparison, command: str, out: Path) -> Path:
    """Write ``tracking.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    return write_results(out, "tracking", found, page_of(found, command), main=_bars(found))


def page_of(found: TrackerComparison, command: str) -> str:
    """The Markdown of a comparison."""
    details: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    for row in found.rows:
        details[row.sequence, row.label].append(row)
    return render(
        "tools.tracking",
        "tracking.md.j2",
        found=found,
        command=command,
        trackers=_trackers(found),
        groups=_groups(found),
        floors=list(_floors(found)),
        details=details,
        mean=_mean,
    )


def _groups(found: TrackerComparison) -> dict[str, list[Compared]]:
    """The rows by what may be said of them."""
    groups: dict[str, list[Compared]] = defaultdict(list)
    for row in found.rows:
        simulated = row.sequence.startswith("simulated-")
        groups["simulated" if simulated else "tuned on" if row.tuned_on else "not tuned on"].append(row)
    return groups


def _trackers(found: TrackerComparison) -> list[str]:
    return [OURS, *found.settings]


def _mean(rows: Sequence[Compared], tracker: str) -> float:
    return statistics.fmean(row.scores.hota for row in rows if row.tracker == tracker)


def _floors(found: TrackerComparison) -> Iterator[dict[str, str | float]]:
    """Each sequence's mean HOTA over its classes beside that of the best of the others with their own defaults."""
    others = [name for name, settings in found.settings.items() if not settings]
    for group, rows in _groups(found).items():
        for sequence in dict.fromkeys(row.sequence for row in rows):
            means = {name: _mean([row for row in rows if row.sequence == sequence], name) for name in (OURS, *others)}
            best = max(others, key=means.__getitem__)
            gain = means[OURS] - means[best]
            yield dict(sequence=sequence, group=group, ours=means[OURS], best=means[best], name=best, gain=gain)


def _bars(found: TrackerComparison) -> Figure:
    """Mean HOTA of each tracker, a group of bars for each group of sequences."""
    trackers, groups = _trackers(found), _groups(found)
    figure = Figure(figsize=(8.5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    width = 0.8 / len(trackers)
    for index, tracker in enumerate(trackers):
        values = [_mean(rows, tracker) for rows in groups.values()]
        places = [place + index * width for place in range(len(groups))]
        bars = axes.bar(places, values, width, label=tracker, color="#1f3d63" if tracker == OURS else None)
        axes.bar_label(bars, fmt="%.1f", fontsize=7)
    axes.set_xticks([place + 0.4 - width / 2 for place in range(len(groups))], [f"sequences {name}" for name in groups])
    axes.set_ylabel("mean HOTA")
    axes.legend(fontsize=7, ncols=4, loc="lower right")
    return figure
