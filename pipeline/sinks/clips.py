"""The thread that makes clips of events: what a stream sent shortly before and after, as the camera encoded it.

Part of the sink that stores the events, since it knows their numbers: it hands each on to here.
"""

import threading
from collections import deque
from dataclasses import replace
from typing import Final

import structlog

from engines.errors import StoreError, one_line
from engines.priority import give_way
from pipeline.sinks.clip_boxes import SeenFrame
from pipeline.sinks.stream_clips import ClipPlace, Happened, StreamClips
from pipeline.wire.messages import FrameMessage
from pipeline.wire.packet_sockets import PacketReader

PACKETS_WAITING: Final = 5000
EVENTS_WAITING: Final = 10_000
FRAMES_WAITING: Final = 2000  # whose boxes go beside clips; the oldest are lost
LOOK_S: Final = 0.05

log = structlog.get_logger()


class ClipRecorder:
    """Makes clips of the events that it is told, in a thread of low priority; never holds up who tells.

    Args:
        place: where clips go; its ``attach`` is called in that thread.
        address: where packets are read.
    """

    def __init__(self, place: ClipPlace, address: str) -> None:
        place.folder.mkdir(mode=0o700, exist_ok=True)
        self._attach, self._place = place.attach, replace(place, attach=self._attached)
        self._streams: dict[str, StreamClips] = {}
        self._events: deque[tuple[str, Happened]] = deque()
        self._frames: deque[FrameMessage] = deque(maxlen=FRAMES_WAITING)
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

    def saw(self, message: FrameMessage) -> None:
        """A frame was looked at."""
        self._frames.append(message)

    def close(self) -> None:
        """Finish the clips with what is here."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        give_way()
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
        while self._frames:
            message = self._frames.popleft()
            self._of(message.stream).saw(SeenFrame.of(message))

    def _of(self, stream: str) -> StreamClips:
        if stream not in self._streams:
            self._streams[stream] = StreamClips(self._place)
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
