"""The clips of one stream: where they begin and end, and which events share one. No thread, no socket."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from engines.errors import MessageError, one_line
from pipeline.sinks.clip_boxes import SeenFrame, StreamBoxes
from pipeline.sinks.clip_file import ClipFile
from pipeline.store import Retention
from pipeline.wire.messages import EventMessage
from pipeline.wire.packet_ring import PacketRing
from pipeline.wire.packets import PacketMessage

LATE_S: Final = 6.0  # stream time that an event may come behind its packets
RING_BYTES: Final = 96_000_000  # of each stream
PENDING_S: Final = 10.0  # that an event waits for its packet; a stream without packets has no clips
ROUNDING_NS: Final = 1_000_000  # events tell milliseconds
FLOOR_EVERY: Final = 4_000_000  # bytes between two looks at the disk

log = structlog.get_logger()

Seconds = Annotated[float, msgspec.Meta(ge=0.0, le=600.0)]


class ClipSettings(Retention, frozen=True, kw_only=True):
    """What is kept, and which part of a stream with each event."""

    clips: bool = False  # whether any is
    before_s: Seconds = 3.0
    after_s: Seconds = 3.0
    # How long a clip goes on while a track is there; then it ends, and there is another of when the track goes.
    max_clip_s: Annotated[float, msgspec.Meta(ge=1.0, le=3600.0)] = 60.0


@dataclass(frozen=True, slots=True)
class Happened:
    """A stored event that is to have a clip."""

    number: int
    at_ns: int
    track: tuple[str, int] | None = None  # kind and number of an object or a face ...
    begins: bool = False  # ... that is there from now on
    since_s: float = field(default_factory=time.monotonic)

    @classmethod
    def of(cls, number: int, at_ns: int, message: EventMessage) -> "Happened":
        """Of the event with a number in the store."""
        follows = message.kind in ("object", "face") and message.event in ("new", "ended") and message.track is not None
        track = (message.kind, message.track) if follows and message.track is not None else None
        return cls(number, at_ns, track, follows and message.event == "new")


@dataclass(frozen=True, slots=True)
class ClipPlace:
    """Where clips of a run go.

    Attributes:
        settings: how much is kept.
        folder: of the files.
        attach: told of each event and the name of its clip.
        has_room: whether the disk has room.
    """

    settings: ClipSettings
    folder: Path
    attach: Callable[[int, str], None]
    has_room: Callable[[], bool] = lambda: True


class StreamClips:
    """The clips of one stream.

    A clip begins at the last key frame that is ``before_s`` before an event or earlier, and goes on until ``after_s``
    after the last event that falls into it, and as long as a track is there that began in it; ``max_clip_s`` at the
    most. Packets that cannot be decoded, since some before them were lost, are left out. Where the format of the stream
    changes, or its capture begins anew, a clip ends; events of before may still come.

    Args:
        place: where they go.
    """

    def __init__(self, place: ClipPlace) -> None:
        self._place = place
        self._pending: deque[Happened] = deque()
        self._last: PacketMessage | None = None
        self._boxes = StreamBoxes(place.settings.before_s + 2 * LATE_S)
        self._now = ClipSession(place, self._boxes)
        self._before: ClipSession | None = None
        self.left_out = 0  # events without a clip

    def happened(self, event: Happened) -> None:
        """An event was stored."""
        self._pending.append(event)
        self._begin_due()

    def saw(self, frame: SeenFrame) -> None:
        """What was seen in the stream's next frame."""
        with _boxes_or_none():
            self._boxes.saw(frame)

    def take(self, packet: PacketMessage) -> None:
        """The stream's next packet."""
        last, self._last = self._last, packet
        if last is not None and (packet.session != last.session or packet.format != last.format):
            if self._before is not None:
                self._before.close()
            self._before, self._now = self._now, ClipSession(self._place, self._boxes)
        self._now.take(packet, last is not None and packet.number == last.number + 1)
        with _boxes_or_none():
            self._boxes.took(packet)
        if self._before is not None and packet.captured_ns > self._now.since_ns + LATE_S * 1e9:
            self._before.close()
            self._before = None
        self._begin_due()

    def look(self) -> None:
        """Wait no longer for packets that do not come."""
        while self._pending and time.monotonic() - self._pending[0].since_s > PENDING_S:
            self._begin(self._pending.popleft())

    def close(self) -> None:
        """No packet comes any more."""
        while self._pending:
            self._begin(self._pending.popleft())
        for session in (self._before, self._now):
            if session is not None:
                session.close()
        self._boxes.close()

    def _begin_due(self) -> None:
        newest_ns = 0 if self._last is None else self._last.captured_ns
        while self._pending and self._pending[0].at_ns <= newest_ns + ROUNDING_NS:
            self._begin(self._pending.popleft())

    def _begin(self, event: Happened) -> None:
        earlier = self._before is not None and event.at_ns + ROUNDING_NS < self._now.since_ns
        session = self._before if earlier and self._before is not None else self._now
        clip = session.clip_of(event)
        if clip is None:
            self.left_out += 1
        else:
            self._place.attach(event.number, clip.name)


@contextmanager
def _boxes_or_none() -> Iterator[None]:
    """Go on where they cannot be written: a clip shows what happened without them."""
    try:
        yield
    except OSError as error:
        log.error("boxes of a clip cannot be written", cause=one_line(error))


class ClipSession:
    """What a stream sends in one format, and the clip that is being written of it.

    Args:
        place: where clips go.
        boxes: of the stream, which go beside them.
    """

    def __init__(self, place: ClipPlace, boxes: StreamBoxes) -> None:
        settings = place.settings
        self._place, self._settings, self._boxes = place, settings, boxes
        self._most_s = max(settings.max_clip_s, settings.before_s + settings.after_s)
        self._ring: PacketRing[PacketMessage] = PacketRing(settings.before_s + LATE_S, RING_BYTES)
        self._decodable = False  # whether all is here since a key frame
        self._clip: ClipFile | None = None
        self._until_s = 0.0  # stream time up to which it goes without a track
        self._tracks: set[tuple[str, int]] = set()  # that began in it and are there
        self._looked = 0  # how many bytes it had when the disk was looked at
        self.since_ns = 0  # when its first packet was captured

    def take(self, packet: PacketMessage, follows: bool) -> None:
        """Take the next packet, which follows the one before unless some between them were lost."""
        self.since_ns = self.since_ns or packet.captured_ns
        self._decodable = packet.key or (self._decodable and follows)
        if not self._decodable:
            return
        self._ring.add(packet)
        if self._clip is not None and packet.decoded_s > self._end_s(self._clip):
            self._end_clip()
        if self._clip is not None:
            self._write(self._clip, packet)

    def clip_of(self, event: Happened) -> ClipFile | None:
        """Return the clip that shows an event, the one that is being written or a new one; None: there can be none."""
        near = min(self._ring, key=lambda packet: abs(packet.captured_ns - event.at_ns), default=None)
        if near is None:
            return None
        until_s, clip = near.time_s + self._settings.after_s, self._clip
        if clip is not None and not (
            clip.begin_s <= near.time_s and until_s <= clip.begin_s + self._most_s and clip.is_there
        ):
            self._end_clip()
        if self._clip is None:
            self._until_s = until_s
            self._tracks.clear()
        self._until_s = max(self._until_s, until_s)
        if event.track is not None:
            (self._tracks.add if event.begins else self._tracks.discard)(event.track)
        return self._clip or self._new_clip(near.time_s)

    def close(self) -> None:
        """End the clip."""
        self._end_clip()

    def _end_s(self, clip: ClipFile) -> float:
        last_s = clip.begin_s + self._most_s
        return last_s if self._tracks else min(last_s, self._until_s)

    def _new_clip(self, at_s: float) -> ClipFile | None:
        packets = list(self._ring.since(at_s - self._settings.before_s))
        if not packets or not self._place.has_room():
            return None
        try:
            clip = self._clip = ClipFile(self._place.folder, packets[0])
            self._boxes.begin(clip.path, clip.media_begin_s)
        except (OSError, MessageError) as error:
            log.error("clip cannot be written", stream=packets[0].stream, cause=one_line(error))
            return None
        self._looked = 0
        for packet in packets:
            if packet.decoded_s > self._end_s(clip):
                self._end_clip()
            if self._clip is None:
                break
            self._write(clip, packet)
        return clip

    def _write(self, clip: ClipFile, packet: PacketMessage) -> None:
        try:
            clip.write(packet)
        except (OSError, MessageError) as error:
            log.error("clip cannot be written", stream=packet.stream, cause=one_line(error))
            self._end_clip()
            return
        if clip.nbytes - self._looked > FLOOR_EVERY:
            self._looked = clip.nbytes
            if not self._place.has_room():
                log.warning("clip cut short", stream=packet.stream, cause="too little of the disk is free")
                self._end_clip()

    def _end_clip(self) -> None:
        clip, self._clip = self._clip, None
        if clip is not None:
            self._boxes.end(clip.path, clip.last_s)
            try:
                clip.close()
            except OSError as error:
                log.error("clip cannot be written", clip=clip.name, cause=one_line(error))
