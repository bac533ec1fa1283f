"""A soak as a page, a picture and plain values."""

import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any, Final

import numpy as np

from engines.pages import render
from tools.soaking.judge import Outcome, Slope, Soak, percentile, problems
from tools.soaking.latency import verdict

SAMPLED: Final = {
    "memory_mb": "memory of all processes, MB",
    "shared_mb": "shared memory, MB",
    "descriptors": "descriptors",
    "threads": "threads",
    "processes": "processes",
}


SHORT: Final = "too short for one"


def page_of(soaks: Sequence[Soak], machine: str, at: str) -> str:
    """Return the page of some soaks, in Markdown."""
    values = {"soaks": [_shown(soak) for soak in soaks], "rows": _rows(soaks), "sampled": SAMPLED}
    return render("tools.soaking", "soak.md.j2", {}, **values, machine=machine, at=at)


def values_of(soak: Soak) -> dict[str, Any]:
    """Return all of a soak as plain values for JSON, and what does not hold; an infinite bound is none."""
    values = asdict(soak) | {"problems": problems(soak)}
    for line in values["slopes"].values():
        line |= {name: None if math.isinf(line[name]) else line[name] for name in ("low", "high")}
    return values


def draw(soak: Soak) -> bytes:
    """Return memory, descriptors, threads and processes over the time of a soak, as a PNG."""
    from matplotlib.figure import Figure  # an extra

    figure = Figure((10.0, 6.0), layout="constrained")
    began_s = soak.samples[0].at_s if soak.samples else 0.0
    times = np.array([sample.at_s - began_s for sample in soak.samples]) / 60
    for place, (name, title) in enumerate(list(SAMPLED.items())[:4], start=1):
        axes = figure.add_subplot(2, 2, place)
        axes.plot(times, [getattr(sample, name) for sample in soak.samples], linewidth=0.8)
        for outcome in soak.outcomes:
            axes.axvline(outcome.at_s / 60, color="0.85", linewidth=0.6, zorder=0)
        axes.set(title=title, xlabel="minutes", ylim=(0, None))
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=100)
    return content.getvalue()


def _rows(soaks: Sequence[Soak]) -> list[dict[str, Any]]:
    """A row for each fault, of all soaks together."""
    found: dict[str, list[Outcome]] = {}
    for outcome in (each for soak in soaks for each in soak.outcomes):
        found.setdefault(outcome.fault, []).append(outcome)
    return sorted((_row(each) for each in found.values()), key=lambda row: (row["room"], row["fault"]))


def _row(outcomes: list[Outcome]) -> dict[str, Any]:
    times = [each.recovered_s for each in outcomes if each.recovered_s is not None]
    changes = [
        each.during.p99_ms - each.before.p99_ms
        for each in outcomes
        if each.before.p99_ms is not None and each.during.p99_ms is not None
    ]
    words = list(dict.fromkeys(word for each in outcomes for word in each.told))
    return {
        "fault": outcomes[0].fault,
        "room": outcomes[0].room,
        "times": len(outcomes),
        "recovered": len(times),
        "p50_s": _number(percentile(times, 50)),
        "p99_s": _number(percentile(times)),
        "p99_change_ms": f"{median(changes):+.0f}" if changes else "–",
        "gap_before_s": f"{max(each.before.gap_s for each in outcomes):.1f}",
        "gap_s": f"{max(each.during.gap_s for each in outcomes):.1f}",
        "missing": sum(each.missing for each in outcomes),
        "told": "<br>".join(_cell(word) for word in words[:4]) or "nothing",
    }


def _cell(text: str) -> str:
    short = text if len(text) <= 110 else f"{text[:107]}..."
    return short.replace("|", "\\|").replace("\n", " ")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _shown(soak: Soak) -> dict[str, Any]:
    return {
        "soak": soak,
        "minutes": f"{soak.seconds / 60:.1f}",
        "problems": problems(soak),
        "ratio": SHORT if soak.latency is None else f"{soak.latency}: {verdict(soak.latency)}",
        "machine": SHORT if soak.machine is None else str(soak.machine),
        "slopes": {name: _line(line) for name, line in soak.slopes.items()},
    }


def _line(line: Slope) -> dict[str, str]:
    sure = not math.isinf(line.low)
    return {
        "first": f"{line.first:.1f}",
        "last": f"{line.last:.1f}",
        "slope": f"{line.per_hour:+.1f} ({line.low:+.1f} to {line.high:+.1f})" if sure else SHORT,
    }
