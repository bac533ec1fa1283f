"""Which pictures of a live playlist were shown before it was opened again; pure state."""

import zlib
from collections import deque
from typing import Final

import av
from av.video.stream import VideoStream

KEPT: Final = 4000  # packets: more than a playlist lists at once


class Repeats:
    """Knows packets again by their time stamp and their bytes.

    Whoever opens a live playlist gets its last segments first. Where it has stopped growing, has an end by now, or was
    lost for a moment, they were shown already.
    """

    def __init__(self) -> None:
        self._kept: deque[tuple[int, int]] = deque(maxlen=KEPT)
        self._before: frozenset[tuple[int, int]] = frozenset()
        self._again: set[float] = set()  # times of their pictures, in seconds

    def opened(self) -> None:
        """The playlist was opened, or opened again."""
        self._before, self._again = frozenset(self._kept), set()

    def took(self, packet: "av.Packet[VideoStream]") -> None:
        """A packet is about to be decoded."""
        if packet.pts is None or packet.time_base is None:
            return
        known = packet.pts, zlib.crc32(memoryview(packet))
        if known in self._before:
            self._again.add(float(packet.pts * packet.time_base))
        else:
            self._kept.append(known)

    def shown_before(self, source_s: float | None) -> bool:
        """Whether the picture with this time was shown before the playlist was opened again."""
        return source_s in self._again
