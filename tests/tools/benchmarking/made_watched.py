"""Watched runs made of thin air, for tests of what is figured out from them."""

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.wire.messages import FaceMessage, FrameMessage, ObjectMessage, TimingsMessage
from tools.benchmarking.processes import Usage
from tools.benchmarking.run import MIB, Dropped, Watched, dropped_since

BOX = (0.0, 0.0, 8.0, 8.0)


def make_heard(stream: str = "s000", total_ms: float = 10.0, dropped: Mapping[str, int] | None = None) -> FrameMessage:
    """One message: two objects, one face."""
    return FrameMessage(
        stream=stream,
        seq=0,
        captured_at="2026-01-01T00:00:00Z",
        size=(64, 48),
        objects=(ObjectMessage(1, "person", 0.9, BOX),) * 2,
        faces=(FaceMessage(1, None, 0.9, BOX, (), None),),
        scene=(),
        timings_ms=TimingsMessage(queue=total_ms - 3.0, infer=2.0, post=1.0, total=total_ms),
        dropped=dict(dropped or {}),
    )


def make_watched(
    heard: Sequence[FrameMessage],
    seconds: float = 10.0,
    cpu_s: float = 5.0,
    rss_mib: float = 300.0,
    dropped_before: Dropped | None = None,
    joules: float | None = None,
    missed: int = 0,
    cut_short: bool = False,
    batches: Mapping[int, int] | None = None,
) -> Watched:
    """A run between two readings."""
    books: dict[str, Any] = {"batches": dict(batches or {1: len(heard)}), "backend": "made", "precision": "f32"}
    tails = {"p50": 1.0, "p90": 2.0, "p95": 3.0, "p99": 4.0, "max": 5.0}
    books["stages_ms"] = {step: tails for step in ("wait", "preprocess", "queue", "infer", "post", "total")}
    return Watched(
        seconds=seconds,
        cpu_s=cpu_s,
        begin=Usage(1, 50.0, int(rss_mib * MIB), int(rss_mib * MIB), 0, 0, 1, 1),
        end=Usage(1, 50.0 + cpu_s, int(rss_mib * MIB), int(2 * rss_mib * MIB), 0, 0, 1, 1),
        heard=tuple(heard),
        dropped=dropped_since(heard, dropped_before or {}),
        received=len(heard),
        missed=missed,
        joules=joules,
        gpu=None,
        books=books,
        cut_short=cut_short,
    )
