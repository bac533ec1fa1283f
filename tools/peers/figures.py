"""The figures of a comparison: repeats, medians and spreads, and ratios inside each round."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from engines.engine import Precision
from engines.pages import render
from tools.benchmarking.clip import BenchmarkClip
from tools.benchmarking.figures import Spread
from tools.benchmarking.report import BenchmarkMachine, ModelIdentity
from tools.peers.peers import HEADINGS, Group

FULL: Final = 100  # from here on a figure needs no digits after its point


class Failed(Exception):
    """Why something could not be measured, in one sentence."""


class PeerRun(msgspec.Struct, frozen=True):
    """One run of one program."""

    frames_per_s: float
    cpu_ms_per_frame: float  # of all its processes
    peak_mib: float | None  # resident at the most, the sum over its processes; None: not known
    boxes_per_frame: float | None  # None: it looks for nothing


class PeerResult(msgspec.Struct, frozen=True):
    """A run, and with what it was made."""

    run: PeerRun
    versions: Mapping[str, str | None]
    facts: Mapping[str, Any] = {}


class Ratios(msgspec.Struct, frozen=True):
    """Trunkline's figure divided by the peer's, in the same round."""

    frames_per_s: Spread
    cpu_ms_per_frame: Spread
    peak_mib: Spread | None


class PeerRow(msgspec.Struct, frozen=True):
    """A program's line in the table."""

    name: str
    title: str
    remark: str
    runs: tuple[PeerRun, ...] = ()
    ratios: Ratios | None = None  # None: Trunkline's own line, or one of the two could not be measured
    versions: Mapping[str, str | None] = {}
    facts: Mapping[str, Any] = {}  # what else there is to know of it
    failed: str | None = None  # why it was not measured

    def spread(
        self, figure: Literal["frames_per_s", "cpu_ms_per_frame", "peak_mib", "boxes_per_frame"]
    ) -> Spread | None:
        """Median and spread of a figure over the rounds; None where it is not known."""
        return _spread([getattr(run, figure) for run in self.runs])


class PeerComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everybody, on what, and with what."""

    format: Literal[1] = 1
    at: str  # RFC 3339, UTC
    machine: BenchmarkMachine
    clip: BenchmarkClip
    model: ModelIdentity
    precision: Precision  # that Trunkline was asked for
    seconds: float  # of each run
    rounds: int
    groups: Mapping[Group, tuple[PeerRow, ...]]  # Trunkline's line first


def of_peer(said: Mapping[str, Any], facts: Mapping[str, Any]) -> PeerResult:
    """From the line that a peer prints."""
    return PeerResult(
        msgspec.convert({key: said[key] for key in PeerRun.__struct_fields__}, PeerRun), said["versions"], facts
    )


def _of_pipeline(part: Mapping[str, Any]) -> PeerRun:
    figures = part["throughput"]
    return PeerRun(
        frames_per_s=figures["frames_per_s"]["median"],
        cpu_ms_per_frame=figures["cpu_ms_per_frame"]["median"],
        peak_mib=figures["memory"]["peak_mib"]["median"],
        boxes_per_frame=figures["objects_per_frame"] + figures["faces_per_frame"],
    )


def _of_decode(part: Mapping[str, Any]) -> PeerRun:
    return PeerRun(part["frames_per_s"]["median"], part["cpu_ms_per_frame"]["median"], None, None)


def _of_transport(part: Mapping[str, Any]) -> PeerRun:
    ends = (part[f"{end}_cpu_ms_per_frame"]["median"] for end in ("writer", "reader"))
    return PeerRun(part["frames_per_s"]["median"], sum(ends), None, None)


RUN_OF: Final = {Group.pipeline: _of_pipeline, Group.decode: _of_decode, Group.transport: _of_transport}


def of_trunkline(group: Group, report: Mapping[str, Any]) -> PeerResult:
    """From what ``trunkline benchmark --json`` prints of one repeat.

    Raises:
        Failed: the report has no such part.
    """
    try:
        part = report[group]
        return PeerResult(RUN_OF[group](part), report["versions"])
    except KeyError as error:
        raise Failed(f"trunkline benchmark {group} --json has no {error}") from None


def ratios(trunkline: Sequence[PeerRun], peer: Sequence[PeerRun]) -> Ratios | None:
    """Round by round, so that what slows a whole round down does not count; None without a round of both."""
    pairs = list(zip(trunkline, peer, strict=False))
    if not pairs:
        return None
    return Ratios(
        frames_per_s=Spread.of([ours.frames_per_s / theirs.frames_per_s for ours, theirs in pairs]),
        cpu_ms_per_frame=Spread.of([ours.cpu_ms_per_frame / theirs.cpu_ms_per_frame for ours, theirs in pairs]),
        peak_mib=_spread(
            [ours.peak_mib / theirs.peak_mib if ours.peak_mib and theirs.peak_mib else None for ours, theirs in pairs]
        ),
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None


def to_markdown(found: PeerComparison) -> str:
    """The page: what was measured, a table a group, what is not equal, and all versions."""
    everybody = [row for rows in found.groups.values() for row in rows if row.versions]
    return render(
        "tools.peers",
        "peers.md.j2",
        {"three": _three},
        found=found,
        clip=Path(found.clip.source or "").name,
        headings=HEADINGS,
        versions={row.title: row.versions for row in everybody},  # Trunkline's are the same in each group
    )


def _three(value: float) -> str:
    """Three digits, and all of those before the point."""
    return f"{value:.0f}" if value >= FULL else f"{value:.3g}"
