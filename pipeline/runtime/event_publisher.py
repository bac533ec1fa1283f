"""The publish stage: each finished frame becomes a message and events. What was announced outlives a crash."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from engines.spec import ModelSpec
from pipeline.events.log import EventLog
from pipeline.events.zones import check_zones, zone_counter_of
from pipeline.frames.counters import CountsReader, FrameCounts
from pipeline.frames.events import Cause
from pipeline.frames.stage_times import StageTimes, Times
from pipeline.frames.types import Counts, Health, Result
from pipeline.runtime.open_event_log import OpenEventLog
from pipeline.settings.schema import Config, StreamSettings
from pipeline.sinks.base import Sink
from pipeline.sinks.fan_out import Sinks
from pipeline.wire.build import event_message, to_message
from pipeline.wire.messages import EventMessage

SILENT_TIMES = 4.0  # tracking.max_lost_s, after which a track has ended also if a crash swallowed its end
SUBSCRIBERS_BACK_S = 1.0  # to come back to the address of a publisher that died: ZeroMQ tries ten times a second


class DropsBefore:
    """How many frames were given up *before* a frame, by cause.

    The counters alone run ahead: while a frame is in the network, later ones are dropped already. A stream's frames
    come in order and each is published or dropped, so ``seq - published`` of them were dropped before this one.
    """

    def __init__(self) -> None:
        self._reported: dict[str, dict[str, int]] = {}

    def __call__(self, stream: str, seq: int, account: FrameCounts) -> dict[str, int]:
        """Drops by cause before frame ``seq``, with the stream's books as they are before it is published."""
        reported = self._reported.setdefault(stream, {})
        room = seq - account.published - sum(reported.values())
        for cause, count in account.dropped.items():
            new = max(0, min(count - reported.get(cause, 0), room))
            if new:
                reported[cause] = reported.get(cause, 0) + new
                room -= new
        return dict(reported)


class EventPublisher:
    """Turns finished frames into messages and events.

    Args:
        publisher: where they go.
        counters: of the streams, for the drops that messages tell.
        spec: of the model, for its labels.
        config: says which streams have zones and lines, and whether events have crops; None: there are none.
        open_events: where what was announced is kept for the process that replaces this one; None: none does.
        batches: where batches are counted, see :class:`pipeline.frames.stage_times.StageTimes`; None: here alone.

    Attributes:
        times: how long finished frames took.
    """

    def __init__(
        self,
        publisher: Sink,
        counters: CountsReader,
        spec: ModelSpec,
        config: Config | None = None,
        open_events: OpenEventLog | None = None,
        batches: npt.NDArray[np.int64] | None = None,
    ) -> None:
        config, places = config or Config(streams=()), {}
        for stream in config.streams:
            if (counter := zone_counter_of(stream, spec.objects)) is not None:
                if open_events is not None:
                    counter.count_on(open_events.line_counts(stream.name))
                places[stream.name] = counter
        patience_s = SILENT_TIMES * config.tracking.max_lost_s
        self._events = EventLog(spec.objects, spec.scene_labels, places, config.events.best_crops, patience_s)
        self._publisher, self._counters, self._spec = publisher, counters, spec
        self._drops_before = DropsBefore()
        self._open_events = open_events
        self._unsent: deque[EventMessage] = deque()  # a crash while sending must not lose an end
        self._lock = threading.Lock()  # frames come from the thread of each shard, the ends of streams from others
        self.times = StageTimes(batches)

    def update(self, result: Result) -> None:
        """Send one frame and its events."""
        frame = result.frame
        dropped = self._drops_before(frame.stream, frame.seq, self._counters.of(frame.stream))
        with self._lock:
            # All of them before the first is sent: a crash must not leave a frame that was both told and dropped.
            message = to_message(result, self._spec, dropped)
            self._unsent += map(event_message, self._events.update(result))
            if self._open_events is not None:
                self._open_events.reached(frame.stream, frame.seq, frame.captured_ns, result.objects, result.faces)
                self._open_events.announcing(self._unsent)
            self._publisher.send(message)
            self._send_events()
            self.times.add(result)

    def counts(self, stream: str) -> dict[str, Counts]:
        """Of a stream's zones and lines, as of its last frame."""
        with self._lock:
            return self._events.counts(stream)

    def times_so_far(self) -> Times:
        """How long frames took so far; any thread may ask, and frames wait microseconds for it."""
        with self._lock:
            work_out = self.times.copy()
        return work_out()

    def check(self, settings: StreamSettings) -> None:
        """Refuse a stream with a zone or line for a label that the model does not know, with a ConfigError."""
        check_zones((settings,), self._spec.objects)

    def begin(self, settings: StreamSettings, lines: Mapping[str, Counts] | None = None) -> None:
        """A stream is added whose frames come from now on; its lines count on from ``lines``, by name."""
        counter = zone_counter_of(settings, self._spec.objects)
        if counter is not None and lines is not None:
            counter.count_on(lines)
        with self._lock:
            self._events.begin(settings.name, counter)

    def reported(self, report: Health) -> None:
        """What happened to a stream is about to be published: when it is down or over, all that was seen has ended."""
        if report.state != "up":
            self.end(report.stream, "down" if report.state == "down" else "stopped")

    def forget(self, stream: str) -> None:
        """A stream that has ended was removed."""
        with self._lock:
            self._events.forget(stream)

    def end(self, stream: str, cause: Cause) -> None:
        """Send the end of everything that was told of a stream, as of its last frame."""
        with self._lock:
            self._unsent += map(event_message, self._events.end(stream, cause))
            self._send_events()

    def end_all(self, cause: Cause) -> None:
        """Send the end of everything."""
        for stream in self._events.streams:
            self.end(stream, cause)

    def _send_events(self) -> None:
        sent = []
        while self._unsent:
            self._publisher.send(self._unsent[0])
            sent.append(self._unsent.popleft())
        if self._open_events is not None:
            self._open_events.announced(sent)


def settle(publisher: Sinks, open_events: OpenEventLog, cause: Cause) -> None:
    """Send the ends that a publisher at the same address owed when it was killed, once its subscribers are back."""
    if owed := open_events.left(cause):
        publisher.await_subscriber(SUBSCRIBERS_BACK_S, lambda: False)
        for event in owed:
            publisher.send(event)
        open_events.clear()


def publish(results: Iterable[Result], event_publisher: EventPublisher) -> Iterator[Result]:
    """Announce each finished frame and pass it on."""
    for result in results:
        event_publisher.update(result)
        yield result
