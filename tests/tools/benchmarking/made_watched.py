"""Watched runs made of thin air, for tests of what is figured out from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.wire.messages import TimingsMessage
from tools.benchmarking.power import Counter
from tools.benchmarking.processes import Usage
from tools.benchmarking.watch import Heard, Reading, Watched

MIB = 2**20


def make_heard(
    at_s: float = 0.0, stream: str = "s000", total_ms: float = 10.0, dropped: Mapping[str, int] | None = None
) -> Heard:
    """One message: two objects, one face."""
    timings = TimingsMessage(queue=total_ms - 3.0, infer=2.0, post=1.0, total=total_ms)
    return Heard(at_s, stream, timings, objects=2, faces=1, dropped=dropped or {})


def make_watched(
    heard: Sequence[Heard],
    seconds: float = 10.0,
    cpu_s: float = 5.0,
    rss_mib: float = 300.0,
    dropped_before: Mapping[str, Mapping[str, int]] | None = None,
    joules: float | None = None,
    missed: int = 0,
    cut_short: bool = False,
    batches: Mapping[int, int] | None = None,
) -> Watched:
    """A run between two readings."""
    energy = [{} if joules is None else {"package": Counter(spent, 1e6)} for spent in (0.0, joules or 0.0)]
    begin = Reading(100.0, Usage(1, 50.0, int(rss_mib * MIB), int(rss_mib * MIB)), energy[0])
    end = Reading(100.0 + seconds, Usage(1, 50.0 + cpu_s, int(rss_mib * MIB), int(2 * rss_mib * MIB)), energy[1])
    books: dict[str, Any] = {"batches": dict(batches or {1: len(heard)}), "backend": "made", "precision": "f32"}
    tails = {"p50": 1.0, "p90": 2.0, "p95": 3.0, "p99": 4.0, "max": 5.0}
    books["stages_ms"] = {step: tails for step in ("wait", "preprocess", "queue", "infer", "post", "total")}
    return Watched(begin, end, tuple(heard), dropped_before or {}, len(heard), missed, None, books, cut_short)
