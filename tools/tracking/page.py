"""The pages of the comparison: Markdown, picture and JSON, all made of the same results."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from engines.study.results import write_results
from engines.study.writing import filled
from tools.tracking.comparison import Compared, Comparison
from tools.tracking.ours import OURS

NAME: Final = "tracking"


def write_pages(found: Comparison, command: str, out: Path) -> Path:
    """Write ``tracking.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    return write_results(out, NAME, found, _bars(found), _markdown(found, command))


def _groups(found: Comparison) -> dict[str, list[Compared]]:
    """The rows by what may be said of them."""
    groups: dict[str, list[Compared]] = defaultdict(list)
    for row in found.rows:
        simulated = row.sequence.startswith("simulated-")
        groups["simulated" if simulated else "tuned on" if row.tuned_on else "not tuned on"].append(row)
    return groups


def _trackers(found: Comparison) -> list[str]:
    return [OURS, *found.settings]


def _mean(rows: Sequence[Compared], tracker: str) -> float:
    return statistics.fmean(row.scores.hota for row in rows if row.tracker == tracker)


def _bars(found: Comparison) -> Figure:
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


def _markdown(found: Comparison, command: str) -> str:
    return f"""# Trackers on identical detections

Written by the command below; a change by hand is lost with the next run of it.

```sh
{command}
```

![Mean HOTA of every tracker]({NAME}.png)

{_means(found)}

{_floor(found)}

{_speeds(found)}

{_notes(found)}

## Every sequence and class

{_details(found)}

Everything: [{NAME}.json]({NAME}.json).
"""


def _means(found: Comparison) -> str:
    groups = _groups(found)
    lines = ["| mean HOTA, sequences | " + " | ".join(_trackers(found)) + " |"]
    lines.append("|---|" + "---:|" * len(_trackers(found)))
    for name, rows in groups.items():
        values = (f"{_mean(rows, tracker):.2f}" for tracker in _trackers(found))
        lines.append(f"| {name} ({len(rows) // len(_trackers(found))} rows) | " + " | ".join(values) + " |")
    return "\n".join(lines)


def _floor(found: Comparison) -> str:
    """Each sequence's mean HOTA over its classes beside that of the best of the others with their own defaults."""
    others = [name for name, settings in found.settings.items() if not settings]
    lines = ["| sequence | Trunkline | best of the others' defaults | difference |", "|---|---:|---:|---:|"]
    below = 0
    for group, rows in _groups(found).items():
        for sequence in dict.fromkeys(row.sequence for row in rows):
            own = [row for row in rows if row.sequence == sequence]
            ours, best = _mean(own, OURS), max(others, key=lambda name: _mean(own, name))
            gain = ours - _mean(own, best)
            below += gain < 0
            figure = f"{gain:+.1f}" if gain >= 0 else f"**{gain:+.1f}**"
            lines.append(f"| {sequence} ({group}) | {ours:.1f} | {_mean(own, best):.1f}, {best} | {figure} |")
    total = len(lines) - 2
    lines += ["", filled(f"Not below the best of them, means over the classes: {total - below} of {total} sequences.")]
    return "\n".join(lines)


def _speeds(found: Comparison) -> str:
    ours = found.speeds[0].cpu_ms_per_frame
    lines = ["| tracker | CPU ms a frame | times ours |", "|---|---:|---:|"]
    lines += [
        f"| {each.tracker} | {each.cpu_ms_per_frame:.3f} | {each.cpu_ms_per_frame / ours:.1f} |"
        for each in found.speeds
    ]
    return "\n".join(lines)


def _notes(found: Comparison) -> str:
    settings = "; ".join(
        f"{name}: {', '.join(f'{key} {value:g}' for key, value in chosen.items()) or 'its defaults'}"
        for name, chosen in found.settings.items()
    )
    points = (
        f"Settings of the others: {settings}. The frame rate is told to all.",
        f"Settings, ours and tuned ones, were chosen on {', '.join(found.tuning)}, and ours on simulated sequences "
        "with other seeds, too; of the sequences not named, those simulated here among them, only results were looked "
        "at; they have led to the rejection of one change (docs/tracking.md).",
        "All get the same detections, of one class at a time, and only show tracks as they go: nothing is filled in "
        "afterwards. A mean is over the rows of the table below, whatever their number of boxes.",
        f"Speed: a simulated crowd with {found.crowd:g} detections a frame; CPU time of the updates alone, the fastest "
        "of several rounds, all in one process and in turn.",
    )
    return "\n".join(filled(f"* {point}") for point in points)


def _details(found: Comparison) -> str:
    rows: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    for row in found.rows:
        rows[row.sequence, row.label].append(row)
    lines = ["| sequence | class | boxes | tracker | HOTA | DetA | AssA | IDF1 | MOTA | switches |"]
    lines.append("|---|---|---:|---|---:|---:|---:|---:|---:|---:|")
    for (sequence, label), each in rows.items():
        best = max(row.scores.hota for row in each)
        for row in each:
            it = row.scores
            hota = f"**{it.hota:.1f}**" if it.hota == best else f"{it.hota:.1f}"
            lines.append(
                f"| {sequence} | {label} | {it.true_boxes} | {row.tracker} | {hota} | {it.det_a:.1f} | {it.ass_a:.1f} "
                f"| {it.idf1:.1f} | {it.mota:.1f} | {it.switches} |"
            )
    return "\n".join(lines)
