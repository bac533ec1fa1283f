"""One stream of a run of threads, from when it is added until it ends, is removed or the run is over."""

import threading
from collections.abc import Callable, Iterator
from typing import Literal

from pipeline.frames.counters import FrameCounters
from pipeline.frames.types import Frame
from pipeline.runtime.capturing import HealthReporter, Tell, keep_capturing
from pipeline.runtime.graph import SOURCE, SourceParts
from pipeline.runtime.link import LinkClosed
from pipeline.settings.schema import InferenceSettings, StreamSettings
from pipeline.sources.capture import Capture
from pipeline.sources.packets import PacketTarget
from pipeline.sources.rate import rates_of


class StreamCapture:
    """Captures one stream and counts its frames. ``run`` is for a thread of its own, the rest for any.

    Args:
        settings: of the stream.
        inference: tells those of the run, which may change.
        source: what gives the frames; None: what the settings name.
        counters: where they are counted, behind those of earlier streams of the same name.
        admit: takes a frame that was counted; waits for room, and raises LinkClosed when it is not taken.
        publish: publishes what happens to the stream.
        packets: where its packets go; None: nobody wants them.
        base: how many were counted before its source is opened at its beginning; None: all that were.
    """

    def __init__(
        self,
        settings: StreamSettings,
        inference: Callable[[], InferenceSettings],
        source: Capture | None,
        counters: FrameCounters,
        admit: Callable[[Frame], None],
        publish: Tell,
        packets: PacketTarget | None = None,
        base: int | None = None,
    ) -> None:
        self.settings = settings  # of which inference_fps may change
        self.stop = threading.Event()
        self.reporter = HealthReporter(settings.name, counters, publish)
        self.thread: threading.Thread | None = None
        self._inference, self._source, self._counters, self._take = inference, source, counters, admit
        self._packets: dict[str, PacketTarget] = {} if packets is None else {"packets": packets}
        self._base = counters.of(settings.name).captured if base is None else base
        self._closed = False
        self._lock = threading.Lock()  # held while a frame is counted, so that none is once it is closed
        self._counted: Frame | None = None  # that was not taken yet

    def run(self) -> None:
        """Capture until the stream ends or is stopped."""
        keep_capturing(self.settings, self._frames_of, self._admit, self._dropped, self.reporter.tell, self.stop)

    def end(self, state: Literal["down", "ended"], cause: str) -> None:
        """Say the last word on the stream; nothing that comes after it counts: the thread may hang in a read."""
        with self._lock:
            self._closed = True
        self.reporter.end(state, cause)

    def _frames_of(self, health: Tell) -> Iterator[Frame]:
        seen = self._counters.of(self.settings.name).captured - self._base  # by an earlier capture that crashed
        parts = SourceParts(
            settings=self.settings,
            rates=lambda: rates_of(self.settings, self._inference()),
            source=self._source,
            stop=self.stop,
            health=health,
            seen=seen,
            base=self._base,
            over=lambda: self.stop.is_set() or self.reporter.over,
            more={"lost": self._lost} | self._packets,
        )
        return SOURCE.make(parts)(iter(()))

    def _lost(self, count: int, cause: str) -> None:
        with self._lock:
            if not self._closed:
                self._counters.captured(self.settings.name, count)
                self._counters.dropped(self.settings.name, cause, count)

    def _admit(self, frame: Frame) -> None:
        with self._lock:
            if self._closed:
                raise LinkClosed
            self._counters.captured(frame.stream)
            self._counted = frame
        self._take(frame)
        self._counted = None

    def _dropped(self, frame: Frame, cause: str) -> None:
        if self._counted is frame:
            self._counters.dropped(frame.stream, cause)
        self._counted = None
