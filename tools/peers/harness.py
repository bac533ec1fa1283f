"""The harness around peers: environments and processes of their own, rounds in which all take turns, and ratios."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from tools.benchmarking.figures import Spread
from tools.peers.peers import Group

CHECKOUT: Final = Path(__file__).resolve().parents[2]
WIDE: Final = "500"  # columns of the terminal that programs are told they have: their errors stay on one line
MADE: Final = "made-of.txt"  # in the environment, once it is whole


class Failed(Exception):
    """Why something could not be measured, in one sentence."""


class PeerRun(msgspec.Struct, frozen=True):
    """One run of one program."""

    frames_per_s: float
    cpu_ms_per_frame: float  # of all its processes
    peak_mib: float | None  # resident at the most, the sum over its processes; None: not known
    boxes_per_frame: float | None  # None: it looks for nothing


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
        """Return a figure over the rounds; None where it is not known."""
        return _spread([getattr(run, figure) for run in self.runs])


class PeerResult(msgspec.Struct, frozen=True):
    """A run, and with what it was made."""

    run: PeerRun
    versions: Mapping[str, str | None]
    facts: Mapping[str, Any] = {}


Measure = Callable[[], PeerResult]


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody to be measured; the first of a group is the one that the others are held against."""

    name: str
    title: str
    group: Group
    remark: str
    prepare: Callable[[], Measure]  # what takes long and is not measured


def play(
    contestants: Sequence[Contestant], rounds: int, tell: Callable[[str], None] = lambda text: None
) -> dict[Group, tuple[PeerRow, ...]]:
    """Prepare everybody, then measure everybody once a round; who fails is not asked again, and has no figures."""
    results: dict[str, list[PeerResult]] = {one.name: [] for one in contestants}
    ready: dict[str, Measure] = {}
    failed: dict[str, str] = {}
    for number in range(rounds + 1):
        for one in contestants:
            if one.name in failed:
                continue
            tell(f"Round {number} of {rounds}: {one.title}" if number else f"Preparing: {one.title}")
            try:
                if number:
                    results[one.name].append(ready[one.name]())
                else:
                    ready[one.name] = one.prepare()
            except Failed as error:
                failed[one.name] = str(error)
                results[one.name].clear()
    groups: dict[Group, tuple[PeerRow, ...]] = {}
    for one in contestants:
        done, before = results[one.name], groups.get(one.group, ())
        runs = tuple(result.run for result in done)
        row = PeerRow(
            one.name,
            one.title,
            one.remark,
            runs,
            ratios(before[0].runs, runs) if before else None,
            done[-1].versions if done else {},
            done[-1].facts if done else {},
            failed.get(one.name),
        )
        groups[one.group] = (*before, row)
    return groups


def ratios(trunkline: Sequence[PeerRun], peer: Sequence[PeerRun]) -> Ratios | None:
    """Round by round, so that what slows a whole round down does not count; None without a round of both."""
    pairs = list(zip(trunkline, peer, strict=False))
    if not pairs:
        return None
    return Ratios(
        frames_per_s=Spread.of(ours.frames_per_s / theirs.frames_per_s for ours, theirs in pairs),
        cpu_ms_per_frame=Spread.of(ours.cpu_ms_per_frame / theirs.cpu_ms_per_frame for ours, theirs in pairs),
        peak_mib=_spread([one.peak_mib / it.peak_mib if one.peak_mib and it.peak_mib else None for one, it in pairs]),
    )


def _spread(values: Sequence[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread.of(known) if known else None


def said(command: Sequence[str], timeout_s: float, variables: Mapping[str, str] | None = None) -> str:
    """Return what a command prints, run at the top of the checkout.

    Raises:
        Failed: it ends with another status than 0, or takes too long.
    """
    env = {**os.environ, "COLUMNS": WIDE, **(variables or {})}
    try:
        done = subprocess.run(command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Failed(f"took longer than {timeout_s:g} s") from None
    if done.returncode:
        raise Failed(last_line(done.stderr))
    return done.stdout


def last_json(text: str) -> dict[str, Any]:
    """Return the object on the last line; libraries may have printed before.

    Raises:
        Failed: there is none.
    """
    try:
        return msgspec.json.decode((text.splitlines() or [""])[-1], type=dict[str, Any])
    except msgspec.MsgspecError:
        raise Failed("printed no result") from None


def last_line(text: str) -> str:
    """Return the last line that says something, without what command-line programs put around errors."""
    lines = [line.strip(" │╭╮╰╯─").removeprefix("error: ") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "ended without a word")


def environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """Return the Python of an environment with these requirements.

    Raises:
        Failed: it cannot be made.
    """
    python, stamp = folder / "bin" / "python", folder / MADE
    wanted = "\n".join((sys.version, *requirements))
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        _call(sys.executable, "-m", "venv", str(folder))
        _call(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
        stamp.write_text(wanted)
    return python


def _call(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"its environment cannot be made: {last_line(done.stderr)}")
