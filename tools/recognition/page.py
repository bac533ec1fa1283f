"""The pages of the study: Markdown, picture and JSON, all made of the same results."""

from pathlib import Path
from typing import Final

from matplotlib.figure import Figure

from engines.study.results import write_results
from engines.study.writing import filled
from pipeline.identity import EARLY_S, KNOWN_S
from pipeline.naming import LEAD
from tools.recognition.methods import METHODS, OURS, SINGLE
from tools.recognition.splits import SETTINGS
from tools.recognition.study import VIEWS, Row, Spread, Study

NAME: Final = "recognition"
FLOOR: Final = 0.5  # of the errors of single frames


def write_pages(found: Study, command: str, out: Path) -> Path:
    """Write ``recognition.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    return write_results(out, NAME, found, _bars(found), _markdown(found, command))


def _bars(found: Study) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes, width = figure.subplots(), 0.8 / len(METHODS)
    groups = [(setting, views) for setting in SETTINGS for views in VIEWS]
    for number, method in enumerate(METHODS):
        rows = [_row(found, setting, views, method) for setting, views in groups]
        axes.bar(
            [group + number * width for group in range(len(groups))],
            [100 * row.missed.mean for row in rows],
            width,
            yerr=[100 * row.missed.std for row in rows],
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


def _row(found: Study, setting: str, views: int, method: str) -> Row:
    (row,) = (each for each in found.rows if (each.setting, each.views, each.method) == (setting, views, method))
    return row


def _markdown(found: Study, command: str) -> str:
    return f"""# Recognition over time

Written by the command below; a change by hand is lost with the next run of it.

```sh
{command}
```

![Enrolled people missed by every way to tell]({NAME}.png)

{_ratios(found)}

{_notes(found)}

## Every setting

{_table(found)}

## A track that goes over to another person

{_swaps(found)}

Everything: [{NAME}.json]({NAME}.json).
"""


def _ratios(found: Study) -> str:
    lines = ["| setting | views enrolled | rank-1 errors | missed | false accepts |", "|---|---:|---:|---:|---:|"]
    for setting in SETTINGS:
        for views in VIEWS:
            ours, single = (_row(found, setting, views, method) for method in (OURS, SINGLE))
            pairs = (
                (ours.rank1_error, single.rank1_error),
                (ours.missed, single.missed),
                (ours.false_accepts, single.false_accepts),
            )
            shares = " | ".join(_ratio(*pair) for pair in pairs)
            lines.append(f"| {setting} | {views} | {shares} |")
    told = filled(f"{OURS}'s errors as a share of those of {SINGLE}, at the same rule for the threshold:")
    return f"{told}\n\n" + "\n".join(lines) + f"\n\n{_floor(found)}"


def _floor(found: Study) -> str:
    """Where half the errors of single frames are reached."""
    reached = [
        f"{setting}, {views} enrolled"
        for setting in SETTINGS
        for views in VIEWS
        if all(
            FLOOR * getattr(_row(found, setting, views, SINGLE), figure).mean
            >= getattr(_row(found, setting, views, OURS), figure).mean
            for figure in ("rank1_error", "missed")
        )
    ]
    return filled(
        f"Half the errors of {SINGLE} or fewer, rank-1 and missed: {'; '.join(reached) or 'nowhere'}. Three or four "
        "frames of one video are nearly one picture, and pooling them adds little."
    )


def _ratio(ours: Spread, single: Spread) -> str:
    return f"{ours.mean / single.mean:.2f}" if single.mean else "-"


def _notes(found: Study) -> str:
    points = (
        f"{found.frames} video frames of {found.people} people of the {found.split} split, aligned by their known "
        f"points and embedded by model {found.model} ({found.fingerprint}).",
        f"{found.seeds} seeds deal the people: half of them for choosing thresholds, {found.enrolled} enrolled, "
        f"{found.strangers} strangers; figures are means and standard deviations over the seeds.",
        *(f"*{setting}*: {said}." for setting, said in SETTINGS.items()),
        f"The rule: the lowest threshold at which at most {found.far:.0%} of the tracks of the people for choosing are "
        f"given a name from a gallery of {found.enrolled} of the others; no lower than 0. Each way has its own "
        "threshold by it, chosen anew with each seed.",
        f"Rank-1 error: the most similar person is another one, at any similarity. Missed: not given the right name at "
        f"the threshold. False accepts: strangers who are given a name. For {SINGLE} each frame counts as a track.",
        f"{OURS} is the pipeline's own code, with its rule that the best person must be {LEAD:g} ahead of the second. "
        "Frames come video by video, and where the next video begins a face jumps as it never does in a stream: the "
        "check for tracks that go over to someone else takes some of those for another person, which costs a little "
        "in the settings with several videos, beside the plain mean.",
        "Where the track has frames of the same video as those that are enrolled, one of them is nearly the same "
        "picture: that is why the best frame wins there, and nowhere else.",
    )
    return "\n".join(filled(f"* {point}") for point in points)


def _table(found: Study) -> str:
    lines = ["| setting | views enrolled | by | rank-1 error, % | missed, % | false accepts, % | threshold |"]
    lines.append("|---|---:|---|---:|---:|---:|---:|")
    for row in found.rows:
        figures = (_percent(each) for each in (row.rank1_error, row.missed, row.false_accepts))
        cells = " | ".join((row.setting, str(row.views), row.method, *figures))
        lines.append(f"| {cells} | {row.threshold.mean:.3f} ± {row.threshold.std:.3f} |")
    return "\n".join(lines)


def _percent(spread: Spread) -> str:
    return f"{100 * spread.mean:.1f} ± {100 * spread.std:.1f}"


def _swaps(found: Study) -> str:
    it = found.swaps
    return filled(
        f"Tracks at 25 frames a second that bore the right name (similarity {it.threshold:g}, three views enrolled) "
        f"then showed a video of somebody else, enrolled or not. Of {it.swaps}, {it.within_2_5_s:.0%} had lost the "
        f"name within 2.5 s, {it.within_5_s:.0%} within 5 s, {it.within_10_s:.0%} within 10 s; the median is "
        f"{it.median_s:g} s. Of the {it.kept} that went on with the same video, {it.kept_lost:.0%} lost it within "
        f"10 s; {it.views_a_second:g} views of them were embedded a second. A face with a name is looked at every "
        f"{KNOWN_S:g} s, one in doubt every {EARLY_S:g} s."
    )
