"""What changed from one report to another, and whether it is more than noise."""

import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from tools.benchmarking.figures import Spread, rounded
from tools.benchmarking.report import BenchmarkReport

FALSE_ALARMS: Final = 0.05  # chance that a comparison of two equal programs calls any figure changed
MIN_CHANGE: Final = 0.02  # below this, minutes on the same machine differ without anybody having changed anything
# Ends of names.
MORE_IS_BETTER: Final = re.compile(r"(_per_s|_per_s_per_core|ratio_to_(limit|engine)_repeats|streams\.most)$")
NEITHER: Final = ("cores_used",)  # more of it is work done faster, or work wasted
LABELS: Final = ("entry", "backend", "precision", "batch", "streams", "objects", "faces", "named")  # of rows
SETTINGS: Final = """
    machine.cpu machine.gpus model.fingerprint model.name clips detect_clips inferred versions seconds repeats
    pipeline.streams pipeline.links
    streams.p99_ms streams.fps streams.max_queue_delay_ms scaling.fps predecoded.streams predecoded.held
    predecoded.preprocess
"""
COUNT: Final = "streams.most"  # found by a search: one value

Verdict = Literal["better", "worse", "changed", "noise", "unknown"]


class Change(msgspec.Struct, frozen=True):
    """One figure that both reports have."""

    figure: str  # its path in the report
    before: float  # medians
    after: float
    change_percent: float | None  # None: it was 0
    p: float | None  # of Welch's test, corrected; None: too few repeats to tell
    verdict: Verdict


class ReportComparison(msgspec.Struct, frozen=True):
    """Two reports beside each other."""

    differs: tuple[str, ...]  # what was not the same about machine, model, clips and versions
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]  # figures
    only_after: tuple[str, ...]

    @property
    def worse(self) -> tuple[Change, ...]:
        """What got worse beyond the noise."""
        return tuple(change for change in self.changes if change.verdict == "worse")


def compare(before: BenchmarkReport, after: BenchmarkReport) -> ReportComparison:
    """Hold every figure that was repeated against its own noise.

    Welch's t-test on the logarithms of the repeats (Welch 1947), since noise is in proportion, with Holm's correction
    (1979) for the number of figures; a change of less than ``MIN_CHANGE`` is never called one.
    """
    reports = msgspec.to_builtins(before), msgspec.to_builtins(after)
    old, new = (dict(_figures(report)) for report in reports)
    both = [name for name in old if name in new]
    ps = holm([welch(old[name].values, new[name].values) for name in both])
    return ReportComparison(
        differs=tuple(
            line for path in SETTINGS.split() for line in _differences(path, *(_at(it, path) for it in reports))
        ),
        changes=tuple(_change(name, old[name], new[name], p) for name, p in zip(both, ps, strict=True)),
        only_before=tuple(name for name in old if name not in new),
        only_after=tuple(name for name in new if name not in old),
    )


def welch(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Return how likely repeats that differ so much are if nothing changed, two-sided; None: too few of them.

    >>> welch([1.0, 1.01, 0.99], [2.0, 2.02, 1.98]) < 0.001, welch([1.0], [2.0])
    (True, None)
    """
    if min(len(before), len(after)) < 2:
        return None
    if len({*before}) == len({*after}) == 1:  # no noise at all
        return 1.0 if before[0] == after[0] else 0.0
    # What may be 0 or below, such as a growth, has no logarithm.
    scale = math.log if min(*before, *after) > 0 else float
    from scipy import stats  # here: it takes longer to import than all other verbs together

    return float(stats.ttest_ind(list(map(scale, before)), list(map(scale, after)), equal_var=False).pvalue)


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """Return the p-values, each raised so far that comparing all with one level keeps it for all together.

    >>> holm([0.01, None, 0.04])
    [0.02, None, 0.04]
    """
    known = sorted((p, row) for row, p in enumerate(ps) if p is not None)
    raised: list[float | None] = [None] * len(ps)
    least = 0.0
    for place, (p, row) in enumerate(known):
        raised[row] = least = max(least, min(1.0, (len(known) - place) * p))
    return raised


def judge(name: str, before: float, after: float, p: float | None) -> Verdict:
    """Return what to call the change of a figure with this name."""
    if p is None:
        return "noise" if before == after else "unknown"
    if p >= FALSE_ALARMS or abs(after - before) < MIN_CHANGE * abs(before):
        return "noise"
    if name.endswith(NEITHER):
        return "changed"
    return "better" if (after > before) == bool(MORE_IS_BETTER.search(name)) else "worse"


def _change(name: str, before: Spread, after: Spread, p: float | None) -> Change:
    percent = rounded(100 * (after.median / before.median - 1)) if before.median else None
    verdict = judge(name, before.median, after.median, p)
    return Change(name, before.median, after.median, percent, None if p is None else rounded(p), verdict)


def _figures(node: Any, path: str = "") -> Iterator[tuple[str, Spread]]:
    """Every spread in a report, with its path; rows of a table go by what they are about, not by their number."""
    if isinstance(node, dict) and node.keys() == set(Spread.__struct_fields__):
        yield path, msgspec.convert(node, Spread)
    elif isinstance(node, dict):
        for key, child in node.items():
            at = f"{path}.{key}".lstrip(".")
            if at == COUNT:
                yield at, Spread.of([child])
            yield from _figures(child, at)
    elif isinstance(node, list | tuple):
        for child in node:
            if isinstance(child, dict) and (label := _label(child)):
                yield from _figures(child, f"{path}[{label}]")


def _label(row: dict[str, Any]) -> str:
    found = [(key, row[key]) for key in LABELS if key in row]
    return " ".join(str(value) if isinstance(value, str) else f"{key} {value}" for key, value in found)


def _at(node: Any, path: str) -> Any:
    """What is there; None: nothing."""
    for step in path.split("."):
        node = node.get(step) if isinstance(node, dict) else None
    return node


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old | new:
            yield from _differences(f"{path}.{key}", old.get(key), new.get(key))
    elif old != new:
        yield f"{path} was {old}, is {new}"
