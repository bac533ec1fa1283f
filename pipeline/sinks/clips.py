"""Clips of events: what a stream sent from a few seconds before until a few seconds after, as the camera encoded it.

Part of the sink that stores the events, since it knows their numbers: it hands each to a thread of its own here.
"""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
import structlog

from engines.errors import MessageError, StoreError, one_line
from pipeline.sinks.clip_file import ClipFile
from pipeline.store import Retention
from pipeline.wire.messages import EventMessage
from pipeline.wire.packet_ring import PacketRing
from pipeline.wire.packet_sockets import PacketReader
from pipeline.wire.packets import PacketMessage

LATE_S: Final = 6.0  # stream time that an event may come behind its packets
RING_BYTES: Final = 96_000_000  # of each stream
PENDING_S: Final = 10.0  # that an event waits for its packet; a stream without packets has no clips
PACKETS_WAITING: Final = 5000
EVENTS_WAITING: Final = 10_000
LOOK_S: Final = 0.05
NICE: Final = 10
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


class StreamClips:
    """The clips of one stream. Pure but for its files.

    A clip begins at the last key frame that is ``before_s`` before an event or earlier, and goes on until ``after_s``
    after the last event that falls into it, and as long as a track is there that began in it; ``max_clip_s`` at the
    most. Packets that cannot be decoded, since some before them were lost, are left out.

    Args:
        settings: how much is kept.
        folder: of the clips.
        attach: told of each event and the name of its clip.
        has_room: whether the disk has room.
    """

    def __init__(
        self,
        settings: ClipSettings,
        folder: Path,
        attach: Callable[[int, str], None],
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings, self._folder, self._attach, self._has_room = settings, folder, attach, has_room
        self._most_s = max(settings.max_clip_s, settings.before_s + settings.after_s)
        self._ring: PacketRing[PacketMessage] = PacketRing(settings.before_s + LATE_S, RING_BYTES)
        self._pending: deque[Happened] = deque()
        self._last: PacketMessage | None = None
        self._decodable = False  # whether all is here since a key frame
        self._clip: ClipFile | None = None
        self._until_s = 0.0  # stream time up to which it goes without a track
        self._tracks: set[tuple[str, int]] = set()  # that began in it and are there
        self._looked = 0  # how many bytes it had when the disk was looked at
        self.left_out = 0  # events without a clip

    def happened(self, event: Happened) -> None:
        """An event was stored."""
        self._pending.append(event)
        self._begin_clips()

    def take(self, packet: PacketMessage) -> None:
        """The stream's next packet."""
        last, self._last = self._last, packet
        if last is not None and (packet.session != last.session or packet.format != last.format):
            self._end_clip()
            self._forget()
        elif last is not None and packet.number != last.number + 1:
            self._forget()
        self._decodable = self._decodable or packet.key
        self._ring.add(packet)
        if self._clip is not None and packet.time_s > self._end_s(self._clip):
            self._end_clip()
        if self._clip is not None and self._decodable:
            self._write(self._clip, packet)
        self._begin_clips()

    def look(self) -> None:
        """Wait no longer for packets that do not come."""
        while self._pending and time.monotonic() - self._pending[0].since_s > PENDING_S:
            self._begin(self._pending.popleft())

    def close(self) -> None:
        """No packet comes any more."""
        while self._pending:
            self._begin(self._pending.popleft())
        self._end_clip()

    def _forget(self) -> None:
        """What comes next does not go on from what was before."""
        self._ring.clear()
        self._decodable = False

    def _begin_clips(self) -> None:
        newest_ns = 0 if self._last is None else self._last.captured_ns
        while self._pending and self._pending[0].at_ns <= newest_ns + ROUNDING_NS:
            self._begin(self._pending.popleft())

    def _end_s(self, clip: ClipFile) -> float:
        last_s = clip.begin_s + self._most_s
        return last_s if self._tracks else min(last_s, self._until_s)

    def _begin(self, event: Happened) -> None:
        """Have the event in a clip: the one that is being written, or a new one."""
        at_s = self._stream_time(event.at_ns)
        if at_s is None:
            self.left_out += 1
            return
        until_s = at_s + self._settings.after_s
        clip = self._clip
        if clip is not None and not (clip.begin_s <= at_s and until_s <= clip.begin_s + self._most_s and clip.is_there):
            self._end_clip()
        if self._clip is None:
            self._until_s = until_s
            self._tracks.clear()
        self._until_s = max(self._until_s, until_s)
        if event.track is not None:
            (self._tracks.add if event.begins else self._tracks.discard)(event.track)
        clip = self._clip or self._new_clip(at_s)
        if clip is None:
            self.left_out += 1
        else:
            self._attach(event.number, clip.name)

    def _stream_time(self, at_ns: int) -> float | None:
        """The stream time of what was captured then; None: no packet is here."""
        near = min(self._ring, key=lambda packet: abs(packet.captured_ns - at_ns), default=None)
        return None if near is None else near.time_s

    def _new_clip(self, at_s: float) -> ClipFile | None:
        packets = list(self._ring.since(at_s - self._settings.before_s))
        if not packets or not self._has_room():
            return None
        try:
            clip = self._clip = ClipFile(self._folder, packets[0])
        except (OSError, MessageError) as error:
            self._tell(packets[0].stream, error)
            return None
        self._looked = 0
        for packet in packets:
            if packet.time_s > self._end_s(clip):
                self._end_clip()
            if self._clip is None:
                break
            self._write(clip, packet)
        return clip

    def _write(self, clip: ClipFile, packet: PacketMessage) -> None:
        try:
            clip.write(packet)
        except (OSError, MessageError) as error:
            self._tell(packet.stream, error)
            self._end_clip()
            return
        if clip.nbytes - self._looked > FLOOR_EVERY:
            self._looked = clip.nbytes
            if not self._has_room():
                log.warning("clip cut short", stream=packet.stream, cause="too little of the disk is free")
                self._end_clip()

    def _tell(self, stream: str, error: Exception) -> None:
        log.error("clip cannot be written", stream=stream, cause=one_line(error))

    def _end_clip(self) -> None:
        clip, self._clip = self._clip, None
        if clip is not None:
            try:
                clip.close()
            except OSError as error:
                self._tell(clip.name, error)


class ClipRecorder:
    """Makes clips of the events that it is told, in a thread of low priority; never holds up who tells.

    Args:
        settings: how much is kept.
        address: where packets are read.
        folder: of the clips.
        attach: told of each event and the name of its clip, in that thread.
        has_room: whether the disk has room.
    """

    def __init__(
        self,
        settings: ClipSettings,
        address: str,
        folder: Path,
        attach: Callable[[int, str], None],
        has_room: Callable[[], bool],
    ) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        self._settings, self._folder, self._attach, self._has_room = settings, folder, attach, has_room
        self._streams: dict[str, StreamClips] = {}
        self._events: deque[tuple[str, Happened]] = deque()
        self._over = threading.Event()
        self._reader = PacketReader(address, None, PACKETS_WAITING)
        self._lost = 0  # events for which there was no room
        self._thread = threading.Thread(target=self._run, name="clips", daemon=True)
        self._thread.start()

    def happened(self, stream: str, event: Happened) -> None:
        """An event was stored."""
        if len(self._events) < EVENTS_WAITING:
            self._events.append((stream, event))
        else:
            self._lost += 1

    def close(self) -> None:
        """Finish the clips with what is here."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        if sys.platform == "linux":  # elsewhere a priority is the whole process'
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICE)
        try:
            with self._reader:
                while not self._over.is_set():
                    self._step(LOOK_S)
                while (packet := self._reader.read(LOOK_S)) is not None:
                    self._of(packet.stream).take(packet)
                self._hear()
        except Exception:  # events are stored in any case
            log.exception("clips failed")
        finally:
            self._end()

    def _step(self, patience_s: float) -> None:
        packet = self._reader.read(patience_s)
        self._hear()
        if packet is not None:
            self._of(packet.stream).take(packet)
        for clips in self._streams.values():
            clips.look()

    def _hear(self) -> None:
        while self._events:
            stream, event = self._events.popleft()
            self._of(stream).happened(event)

    def _of(self, stream: str) -> StreamClips:
        if stream not in self._streams:
            self._streams[stream] = StreamClips(self._settings, self._folder, self._attached, self._has_room)
        return self._streams[stream]

    def _attached(self, number: int, name: str) -> None:
        try:
            self._attach(number, name)
        except StoreError as error:  # it was deleted meanwhile
            log.info("clip not kept", event=number, cause=one_line(error))

    def _end(self) -> None:
        for clips in self._streams.values():
            clips.close()
        left_out = sum(clips.left_out for clips in self._streams.values()) + self._lost
        packets = sum(self._reader.lost.values())
        if left_out or packets:
            log.warning("clips are not complete", events_without=left_out, packets_lost=packets)
