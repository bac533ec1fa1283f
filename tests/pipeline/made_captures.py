"""Captures with all that they tell."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from pipeline.frames.types import Frame, Health
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import capture

MakeClip = Callable[..., Path]
PATIENCE_S = 10.0  # no test waits this long unless it fails


class Read:
    """A file that was read to its end.

    Attributes:
        frames: all of it.
        missed: how many of its pictures were not shown, by cause.
        reports: what happened to the stream.
    """

    def __init__(self, source: str | Path, first_seq: int = 0, **settings: object) -> None:
        self.missed: Counter[str] = Counter()
        self.reports: list[Health] = []
        values = {"name": "door", "source": str(source)} | settings
        frames: Iterator[Frame] = capture(
            msgspec.convert(values, StreamSettings),
            stop=threading.Event(),
            health=self.reports.append,
            first_seq=first_seq,
            lost=lambda count, cause: self.missed.update({cause: count}),
        )
        self.frames = list(frames)

    @property
    def up(self) -> str:
        """What was told when it began."""
        return next(report.cause for report in self.reports if report.state == "up")

    @property
    def end(self) -> tuple[str, str | None]:
        """What was told in the end, and how much of it was read."""
        assert self.reports[-1].state == "ended"
        return self.reports[-1].cause, self.reports[-1].read

    @property
    def times_s(self) -> list[float]:
        return [frame.time_s for frame in self.frames]

    @property
    def captured(self) -> int:
        """All that it has, shown or not."""
        return len(self.frames) + self.missed.total()


class Captured:
    """One run of capture in this thread, frame by frame, with all that it told."""

    def __init__(self, source: str | Path, first_seq: int = 0, **settings: object) -> None:
        values = {"name": "door", "source": str(source), "reconnect_min_s": 0.01, "reconnect_max_s": 0.02}
        self.stop = threading.Event()
        self.reports: list[Health] = []
        self.frames: Iterator[Frame] = capture(
            msgspec.convert(values | settings, StreamSettings),
            stop=self.stop,
            health=self._hear,
            first_seq=first_seq,
        )
        self.stop_after_reports: int | None = None

    def _hear(self, report: Health) -> None:
        self.reports.append(report)
        if len(self.reports) == self.stop_after_reports:
            self.stop.set()

    def until_reports(self, count: int, patience_s: float = PATIENCE_S) -> list[Frame]:
        """Frames until ``count`` health reports were heard."""
        self.stop_after_reports = count
        alarm = threading.Timer(patience_s, self.stop.set)
        alarm.start()
        try:
            return list(self.frames)
        finally:
            alarm.cancel()

    @property
    def health(self) -> list[tuple[str, str]]:
        return [(report.state, report.cause) for report in self.reports]
