"""A comparison as a page of Markdown."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tools.benchmarking.figures import Spread
from tools.peers.figures import Comparison, Row
from tools.peers.peers import HEADINGS

COLUMNS: Final = ("", "frames/s", "CPU ms/frame", "peak MiB", "boxes/frame", "frames/s ×", "CPU ×", "memory ×")
MILLION: Final = 10**6
UNKNOWN: Final = "–"
FULL: Final = 100  # from here on a figure needs no digits after its point


def to_markdown(comparison: Comparison) -> str:
    """The page: what was measured, a table a group, what is not equal, and all versions."""
    parts = [_head(comparison)]
    for group, rows in comparison.groups.items():
        parts.append(f"## {HEADINGS[group]}")
        parts.append(_table(rows))
        parts.append("\n".join(_remarks(rows)))
    parts.append("## Versions")
    everybody = (row for rows in comparison.groups.values() for row in rows if row.versions)
    # Trunkline has a line in each group, always of the same versions.
    parts.append("\n".join(dict.fromkeys(f"* {row.title}: {_versions(row)}" for row in everybody)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(comparison: Comparison) -> str:
    clip, machine, model = comparison.clip, comparison.machine, comparison.model
    name = Path(clip.source or "").name
    lines = [
        "# Beside what a user would pick instead",
        "",
        "Written by `python tools/peers/compare.py`; [peers.md](../peers.md) says what is compared and what is not "
        "equal. A figure is the median of the rounds, with the least and the greatest; × is Trunkline's figure divided "
        "by the peer's in the same round.",
        "",
        f"* measured at {comparison.at}: everyone for {comparison.seconds:g} s in each of {comparison.rounds} rounds",
        f"* clip: {name}, {clip.width}x{clip.height}, {clip.codec}, {clip.frames_per_s} frames/s",
        f"* model: {model.name}, {model.fingerprint}, at Trunkline's precision `{comparison.precision}`",
        f"* machine: {machine.cpu.name}, {machine.cpu.usable_cores} cores, load before {machine.load:g}",
    ]
    return "\n".join(lines)


def _table(rows: Iterable[Row]) -> str:
    lines = [COLUMNS, ("---", *["---:"] * (len(COLUMNS) - 1)), *(_cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cells(row: Row) -> tuple[str, ...]:
    ratios = row.ratios
    return (
        row.title,
        _figure(row.spread("frames_per_s")),
        _figure(row.spread("cpu_ms_per_frame")),
        _figure(row.spread("peak_mib")),
        _figure(row.spread("boxes_per_frame")),
        _figure(ratios.frames_per_s if ratios else None),
        _figure(ratios.cpu_ms_per_frame if ratios else None),
        _figure(ratios.peak_mib if ratios else None),
    )


def _figure(spread: Spread | None) -> str:
    if spread is None:
        return UNKNOWN
    middle, least, most = (_number(value) for value in (spread.median, spread.min, spread.max))
    return middle if least == most else f"{middle} ({least}–{most})"


def _number(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:.0f}" if value >= FULL else f"{value:.3g}"


def _remarks(rows: Iterable[Row]) -> list[str]:
    lines = []
    for row in rows:
        if row.failed:
            lines.append(f"* {row.title} was not measured: {row.failed}")
        else:
            lines.append(f"* {row.title}: {row.remark}{_macs(row)}")
    return lines


def _macs(row: Row) -> str:
    if "macs" not in row.facts:
        return ""
    ours, theirs = (row.facts[key] / MILLION for key in ("model_macs", "macs"))
    return f" Its network has {theirs:.0f} M multiply-accumulates, the model {ours:.0f} M."


def _versions(row: Row) -> str:
    return ", ".join(f"{package} {version}" for package, version in row.versions.items() if version)
