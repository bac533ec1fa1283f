"""What a finished run tells."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.frames.counters import FrameCounts
from pipeline.frames.types import Health, ReadOutcome
from pipeline.sinks.base import SinkCounts


class FileEnd(NamedTuple):
    """How a file ended."""

    read: ReadOutcome  # how much of it could be read
    cause: str


def file_end(report: Health) -> dict[str, FileEnd]:
    """What a summary keeps of a report, by stream: how a file ended, or nothing."""
    return {} if report.read is None else {report.stream: FileEnd(report.read, report.cause)}


@dataclass(frozen=True, slots=True)
class Summary:
    """A finished run. One that only forwards its frames has none of what comes after the streams."""

    seconds: float
    streams: dict[str, FrameCounts]
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)  # as the process saw it that published last
    batches: dict[int, int] = field(default_factory=dict)  # how many of each size
    skipped: int = 0  # frames that were not inferred, since nothing moved
    backend: str | None = None
    precision: str | None = None
    face_runs: int = 0  # calls of the face entry
    face_crops: int = 0  # faces it embedded
    left_out: dict[str, int] | None = None  # frames that the recording has not, by stream; None: nothing was recorded
    ends: dict[str, FileEnd] = field(default_factory=dict)  # of files that were not stopped, by stream
    sinks: dict[str, SinkCounts] = field(default_factory=dict)  # what became of the messages, of each sink

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        published = sum(account.published for account in self.streams.values())
        values: dict[str, Any] = {
            "seconds": round(self.seconds, 3),
            "frames_per_s": round(published / self.seconds, 2) if self.seconds else 0.0,
        }
        if self.backend is not None:
            values |= {
                "backend": self.backend,
                "precision": self.precision,
                "frames": {"inferred": published - self.skipped, "carried": self.skipped},
                "batches": self.batches,
                "face_entry": {"runs": self.face_runs, "crops": self.face_crops},
                "stages_ms": self.stages_ms,
            }
        values["streams"] = {
            name: {"captured": account.captured, "published": account.published, "dropped": account.dropped}
            | (self.ends[name]._asdict() if name in self.ends else {})
            for name, account in self.streams.items()
        }
        if self.left_out is not None:
            values["recording"] = {"left_out": self.left_out}
        if self.sinks:
            values["sinks"] = {name: {"sent": each.sent, "lost": each.lost} for name, each in self.sinks.items()}
        return values
