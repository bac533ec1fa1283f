"""The harness around peers: environments and processes of their own, and rounds in which all take turns."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tools.peers.figures import Failed, PeerResult, PeerRow, ratios
from tools.peers.peers import Group

Measure = Callable[[], PeerResult]

CHECKOUT: Final = Path(__file__).resolve().parents[2]
WIDE: Final = "500"  # columns of the terminal that programs are told they have: their errors stay on one line
MADE: Final = "made-of.txt"  # in the environment, once it is whole


def said(command: Sequence[str], timeout_s: float, variables: Mapping[str, str] | None = None) -> str:
    """What a command prints, run at the top of the checkout.

    Raises:
        Failed: it ends with another status than 0, or takes too long.
    """
    try:
        done = subprocess.run(
            command,
            cwd=CHECKOUT,
            env={**os.environ, "COLUMNS": WIDE, **(variables or {})},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"took longer than {timeout_s:g} s") from None
    if done.returncode:
        raise Failed(last_line(done.stderr))
    return done.stdout


def last_json(text: str) -> dict[str, Any]:
    """The object on the last line; libraries may have printed before.

    Raises:
        Failed: there is none.
    """
    lines = text.splitlines()
    try:
        found = json.loads(lines[-1]) if lines else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failed("printed no result")
    return found


def last_line(text: str) -> str:
    """The last line that says something, without what command-line programs put around errors."""
    lines = [line.strip(" │╭╮╰╯─").removeprefix("error: ") for line in text.splitlines()]
    return next((line for line in reversed(lines) if line), "ended without a word")


def torch_requirement() -> str:
    """As the Makefile has it: without an NVIDIA GPU the release for which package indexes offer a small CPU build."""
    return "torch" if shutil.which("nvidia-smi") else "torch==2.13.0"


def environment(folder: Path, requirements: tuple[str, ...]) -> Path:
    """The Python of an environment with these requirements.

    Raises:
        Failed: it cannot be made.
    """
    python = folder / "bin" / "python"
    wanted = "\n".join((sys.version, *requirements))
    stamp = folder / MADE
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


@dataclass(frozen=True, slots=True)
class Contestant:
    """Somebody to be measured; the first of a group is the one that the others are held against."""

    name: str
    title: str
    group: Group
    remark: str
    prepare: Callable[[], Measure]  # what takes long and is not measured


@dataclass(slots=True)
class _Course:
    """What has come of a contestant so far."""

    results: list[PeerResult] = field(default_factory=list)
    failed: str | None = None


def play(
    contestants: Sequence[Contestant], rounds: int, tell: Callable[[str], None] = lambda text: None
) -> dict[Group, tuple[PeerRow, ...]]:
    """Prepare everybody, then measure everybody once a round; who fails is not asked again, and has no figures."""
    courses = {one.name: _Course() for one in contestants}
    ready: dict[str, Measure] = {}
    for one in contestants:
        tell(f"Preparing: {one.title}")
        try:
            ready[one.name] = one.prepare()
        except Failed as error:
            courses[one.name].failed = str(error)
    for number in range(rounds):
        for one in contestants:
            course = courses[one.name]
            if course.failed is None:
                tell(f"Round {number + 1} of {rounds}: {one.title}")
                _measure(ready[one.name], course)
    return _rows(contestants, courses)


def _measure(measure: Measure, course: _Course) -> None:
    try:
        course.results.append(measure())
    except Failed as error:
        course.failed = str(error)
        course.results.clear()


def _rows(contestants: Sequence[Contestant], courses: Mapping[str, _Course]) -> dict[Group, tuple[PeerRow, ...]]:
    groups: dict[Group, tuple[PeerRow, ...]] = {}
    for one in contestants:
        course = courses[one.name]
        runs = tuple(result.run for result in course.results)
        before = groups.get(one.group, ())
        last = course.results[-1] if course.results else None
        row = PeerRow(
            name=one.name,
            title=one.title,
            remark=one.remark,
            runs=runs,
            ratios=ratios(before[0].runs, runs) if before else None,
            versions=last.versions if last else {},
            facts=last.facts if last else {},
            failed=course.failed,
        )
        groups[one.group] = (*before, row)
    return groups
