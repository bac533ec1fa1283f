"""Packets of a source that is not decoded, beside the frames of a smaller stream of the same camera."""

import random
import threading
import time
from collections import deque
from typing import Final, Self

import av
import structlog
from av.video.stream import VideoStream

from engines.errors import SourceError
from pipeline.frames.backoff import Backoff
from pipeline.frames.types import Frame
from pipeline.settings.redact import redact
from pipeline.settings.schema import StreamSettings
from pipeline.sources.kind import is_live
from pipeline.sources.opening import opened
from pipeline.sources.packets import PacketTap, PacketTarget

LOOK_S: Final = 0.1  # between two looks whether the frames have come as far as a packet of a file
DRIFT_S: Final = 1.0  # by which times of a live source may differ from the clock before they begin anew
SAME_S: Final = 1e-3  # by which the times of one picture in two files may differ
KEPT: Final = 256  # frames whose times are known
ENDED_S: Final = 5.0  # that a read which hangs is waited for

log = structlog.get_logger()


class UndecodedPackets:
    """Passes on the packets of ``source`` in a thread of its own, by the capture times of the frames beside it.

    A live source that is lost is opened again; the frames go on meanwhile, and a log line tells it. The packets
    of a file come no sooner than its frames. Nothing is passed on before the first frame.
    """

    def __init__(self, settings: StreamSettings, target: PacketTarget) -> None:
        self._settings, self._target, self._live = settings, target, is_live(settings)
        self._over = threading.Event()
        self._seen: deque[tuple[int, float]] = deque(maxlen=KEPT)  # captured_ns and time_s of the last frames
        self._began: tuple[int, float] | None = None  # captured_ns and source time of the first packet
        self._thread = threading.Thread(target=self._run, name=f"packets {settings.name}", daemon=True)
        self._thread.start()

    def seen(self, frame: Frame) -> None:
        """A frame was captured of the smaller stream."""
        self._seen.append((frame.captured_ns, frame.time_s))

    def close(self) -> None:
        """Pass no more on."""
        self._over.set()
        self._thread.join(self._settings.timeout_s + ENDED_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self) -> None:
        settings = self._settings
        backoff, told = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, random.Random()), False
        with PacketTap(settings.name, self._target) as tap:
            while not self._over.is_set():
                cause = "the source ended"
                try:
                    with opened(settings, self._live, self._over) as (container, stream, _):
                        tap.opened(stream)
                        self._began = None
                        for packet in container.demux(stream):
                            if self._over.is_set() and (self._live or not self._reached(packet)):
                                return
                            if self._pass(tap, packet) and told:
                                log.info("packets are passed on again", stream=settings.name)
                                backoff.reset()
                                told = False
                except (SourceError, av.FFmpegError) as error:
                    cause = str(error)
                if not self._live or self._over.is_set():
                    return
                if not told:
                    log.warning("packets are lost", stream=settings.name, source=redact(settings.source), cause=cause)
                    told = True
                self._over.wait(backoff.next())

    def _pass(self, tap: PacketTap, packet: "av.Packet[VideoStream]") -> bool:
        """Pass a packet on once it is its time; whether it was."""
        if not packet.size or packet.pts is None or packet.time_base is None:
            return False
        if not self._live:
            while not self._reached(packet):
                if self._over.wait(LOOK_S):
                    return False
        seen = tuple(self._seen)
        if not seen:
            return False
        source_s = float(packet.pts * packet.time_base)
        if self._live:
            now_ns = time.time_ns()
            began_ns, began_s = self._began or (now_ns, source_s)
            captured_ns = began_ns + round((source_s - began_s) * 1e9)
            if abs(captured_ns - now_ns) > DRIFT_S * 1e9:
                captured_ns, began_ns, began_s = now_ns, now_ns, source_s
            self._began = began_ns, began_s
            time_s = seen[-1][1] + (captured_ns - seen[-1][0]) / 1e9
        else:
            time_s = self._file_s(source_s)
            at_ns, at_s = min(seen, key=lambda each: abs(each[1] - time_s))
            captured_ns = at_ns + round((time_s - at_s) * 1e9)
        tap.passed(packet, captured_ns, time_s)
        return True

    def _reached(self, packet: "av.Packet[VideoStream]") -> bool:
        """Whether the frames of a file have come as far as a packet of the file beside it."""
        if packet.pts is None or packet.time_base is None:
            return True
        at_s = self._file_s(float(packet.pts * packet.time_base))
        return bool(self._seen) and at_s <= self._seen[-1][1] + SAME_S

    def _file_s(self, source_s: float) -> float:
        """Stream time of a file's packet: from 0."""
        if self._began is None:
            self._began = 0, source_s
        return source_s - self._began[1]
