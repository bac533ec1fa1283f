"""The pages of the comparison: Markdown, picture and JSON, all made of the same results."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from engines.study.results import write_results
from engines.study.writing import filled
from tools.smoothing.candidates import CANDIDATES, NO_SMOOTHING, OURS, PLAIN, Kind
from tools.smoothing.comparison import DELAY_FLOOR_S, FLICKER_FLOOR, KINDS, SCENE_RIGHT, SCENE_WRONG, Study
from tools.smoothing.scoring import Figures, mean

NAME: Final = "smoothing"
SHOWN: Final = (*PLAIN, OURS)
COLOURS: Final = ("#b8b8b8", "#d9a441", "#6aa5c9", "#1f3d63")  # of those
LEAST_FLICKER: Final = 0.01  # changes a minute: what a logarithmic axis shows of none at all


def write_pages(found: Study, command: str, out: Path) -> Path:
    """Write ``smoothing.md``, ``.png`` and ``.json``; each replaces the old one when it is whole.

    Returns:
        The Markdown page.
    """
    return write_results(out, NAME, found, _picture(found), _markdown(found, command))


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


def _by_filter(found: Study, kind: Kind, noise: str) -> dict[str, Figures]:
    return {each.filter: each.figures for each in found.measured if each.case == (kind, noise)}


def _noises(found: Study, *, hard: bool) -> list[str]:
    return list(dict.fromkeys(each.noise for each in found.measured if each.hard is hard))


def _picture(found: Study) -> Figure:
    """Wrong time, flicker and delay on each kind of noise: a row for labels, one for scenes."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(len(KINDS), 3)
    for (wrong, flicker, delay), kind in zip(axes, KINDS, strict=True):
        _bars(wrong, found, kind, lambda it: 100 * it.wrong)
        _bars(flicker, found, kind, lambda it: max(it.flicker, LEAST_FLICKER))
        _bars(delay, found, kind, lambda it: it.delay_p95_s)
        wrong.set_title(f"{kind}: wrong label, % of the time", fontsize=9)
        flicker.set_title(f"{kind}: flicker, changes a minute", fontsize=9)
        delay.set_title(f"{kind}: delay of a true change, s, 95th percentile", fontsize=9)
        flicker.set_yscale("log")
        delay.axhline(DELAY_FLOOR_S, color="#a33", linewidth=0.8)
    axes[0][0].legend(fontsize=7)
    return figure


def _bars(axes: Axes, found: Study, kind: Kind, figure: Callable[[Figures], float]) -> None:
    noises = [*_noises(found, hard=False), *_noises(found, hard=True)]
    width = 0.8 / len(SHOWN)
    for index, (name, colour) in enumerate(zip(SHOWN, COLOURS, strict=True)):
        values = [figure(_by_filter(found, kind, noise)[name]) for noise in noises]
        axes.bar([place + index * width for place in range(len(noises))], values, width, label=name, color=colour)
    axes.set_xticks([place + 0.3 for place in range(len(noises))], noises, rotation=40, ha="right", fontsize=7)
    axes.tick_params(axis="y", labelsize=7)


def _markdown(found: Study, command: str) -> str:
    return f"""# Smoothing labels and scenes

Written by the command below; a change by hand is lost with the next run of it.

```sh
{command}
```

![Wrong time, flicker and delay of every filter on every kind of noise]({NAME}.png)

{_notes(found)}

## Objects' labels, simulated noise

{_table(found, "labels")}

## Scenes, simulated noise

{_table(found, "scenes")}

## Which filter

Means over the kinds of noise on which floors are claimed; each candidate with the best of its settings on the tuning
seeds.

{_candidates(found)}

## Clips

{_clips(found)}

{_clip_notes()}

Everything: [{NAME}.json]({NAME}.json).
"""


def _notes(found: Study) -> str:
    it = found.settings
    seeds = ", ".join(map(str, found.seeds))
    points = (
        f"Floors: a tenth of the flicker of no smoothing, wrong no longer than any of the others, 95 % of true changes "
        f"shown within {DELAY_FLOOR_S:g} s. Flicker leaves the true changes out.",
        f"{OURS}: half_life_s {it.half_life_s:g}, margin {it.margin:g}, hold_s {it.hold_s:g}, the defaults, chosen on "
        f"seed {', '.join(map(str, found.tuning_seeds))} of the upper kinds of noise. What is reported is of seeds "
        f"{seeds}: {found.things} things for {found.seconds:g} s each. A majority vote and a plain average look back "
        f"{found.window_s:g} s, so that they average noise as much as our half-life does.",
        "The last kinds, below the line, are those of which no filter can do everything, and show what is paid: bursts "
        "of errors as long as what has to count as a change; frames so far apart that the second one comes after the "
        "floor; so few errors that no smoothing at all is wrong less than what any delay costs.",
        "The simulated network's errors are made up, not a network's: alone, in bursts, between two classes, more "
        "confident than the truth. Changes of an object's label stand for identity switches and wrong beginnings.",
        "Scenes: the same errors as logits that stray, some from frame to frame, some over 0.6 s, as they do in "
        "the clips. A scene is named from a smoothed probability of 0.5 on, so that right ones have at least "
        f"{SCENE_RIGHT:g} and wrong ones {SCENE_WRONG:g} here. Where ours names none, that counts as wrong, "
        "too; the others always name one.",
    )
    return "\n".join(filled(f"* {point}") for point in points)


def _table(found: Study, kind: Kind) -> str:
    lines = [
        "| noise | wrong, %: " + " | ".join(SHOWN) + " | of it without a name | flicker a min: none | " + OURS
        + " | delay s: median | 95th percentile | floors missed |",
        "|---|" + "---:|" * (len(SHOWN) + 5) + "---|",
    ]  # fmt: skip
    for hard in (False, True):
        if hard:
            lines.append("| |" + " |" * (len(SHOWN) + 6))
        for noise in _noises(found, hard=hard):
            figures = _by_filter(found, kind, noise)
            ours = figures[OURS]
            wrong = " | ".join(f"{100 * figures[name].wrong:.2f}" for name in SHOWN)
            missed = "; ".join(missed_floors(figures)) or "none"
            lines.append(
                f"| {noise} | {wrong} | {100 * ours.unnamed:.2f} | {figures[NO_SMOOTHING].flicker:.1f} "
                f"| {ours.flicker:.2f} | {ours.delay_s:.2f} | {ours.delay_p95_s:.2f} | {missed} |"
            )
    return "\n".join(lines)


def _candidates(found: Study) -> str:
    lines = [
        "| | filter | wrong, % | flicker a min | delay s | 95th percentile | settings |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    chosen = {(each.kind, each.filter): each for each in found.tuned}
    for kind in KINDS:
        for name in (*PLAIN, *CANDIDATES, OURS):
            it = mean([_by_filter(found, kind, noise)[name] for noise in _noises(found, hard=False)])
            settings = "the defaults" if name == OURS else ""
            if tuned := chosen.get((kind, name)):
                settings = ", ".join(f"{key} {value:g}" for key, value in tuned.settings.items())
                settings += f" (of {tuned.tried})"
            lines.append(
                f"| {kind} | {name} | {100 * it.wrong:.2f} | {it.flicker:.2f} | {it.delay_s:.2f} "
                f"| {it.delay_p95_s:.2f} | {settings} |"
            )
    return "\n".join(lines)


def _clips(found: Study) -> str:
    lines = [
        "| clip | of | minutes | filter | changes a min | as most raw ones, % | without a name, % |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for each in found.clips:
        unnamed = "" if each.kind == "labels" else f"{100 * each.unnamed:.1f}"
        agree = "" if each.unnamed == 1.0 else f"{100 * each.agreement:.1f}"
        lines.append(
            f"| {each.clip} | {each.kind} | {each.minutes:.2f} | {each.filter} | {each.flicker:.1f} | {agree} "
            f"| {unnamed} |"
        )
    return "\n".join(lines)


def _clip_notes() -> str:
    points = (
        "The true labels of the clips are not known. Changes a minute say how calm a filter is, not whether it is "
        "right; the share of the frames that show what most raw labels of the same track (of the same clip, for "
        "scenes) are says how far it strays from a vote that knows the whole track, which is no truth either.",
        "None of the clips shows one of the scenes that the model was trained on, and its probabilities are low. "
        f"{OURS} leaves a scene without a name while its smoothed probability stays low; whatever is named there, by "
        "this or another filter, is not what is there.",
        "The tracks are few and short, and most keep one raw label throughout: on those every filter does as well as "
        "none, and nothing is shown about smoothing.",
    )
    return "\n".join(filled(f"* {point}") for point in points)
