"""How much has come of a file that is read to its end, and what of it has not."""

import re
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from pipeline.sources.gaps import FileGaps
from pipeline.sources.opening import PLAYLISTS

# Of the length that a file states, beyond which it is not whole: durations are rounded, and of a last picture a guess.
MISSING_S: Final = 0.25
MISSING: Final = 0.05
MISSING_OF_EXACT: Final = 0.005  # of playlists that state the lengths of segments exactly
MISSING_STEPS: Final = 2  # of packets: FLV counts the delay of its decoder in
INDEXED: Final = "avi"  # FFmpeg's name of a format that has an index of all packets, which it reads before them
UNCOUNTED: Final = 2**30  # pictures that a header states, at least, which could not be written once they were counted
DURATION_TAG: Final = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class Length:
    """How much has come of the duration that a file states.

    Of a playlist it is the sum of its packets: the times of segments that are lost do not tell, since others follow.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._in_segments = container.format.name in PLAYLISTS
        alone = self._in_segments or len(container.streams) == 1  # other streams may last longer
        self._unit = stream.time_base
        self._stated_s = _own_duration_s(stream)
        if self._stated_s is None and alone and container.duration is not None:
            self._stated_s = container.duration / av.time_base
        if stream.frames >= UNCOUNTED:
            self._stated_s = None
        self._came = self._filled = 0  # packets, and those with something in them
        self._indexed = len(stream.index_entries) if container.format.name == INDEXED else 0
        one_video = sum(stream.type == "video" for stream in container.streams) == 1
        self._gaps = FileGaps() if one_video and not self._in_segments else None
        self._first_s: float | None = None
        self._last_s = self._sum_s = 0.0

    def reached(self, packet: "av.Packet[VideoStream]") -> None:
        """A packet came."""
        self._came, self._filled = self._came + 1, self._filled + bool(packet.size)
        if self._gaps is not None and packet.size:
            self._gaps.reached(packet.dts, packet.pos, packet.size)
        if packet.pts is not None and packet.time_base is not None:
            begin_s, step_s = float(packet.pts * packet.time_base), float((packet.duration or 0) * packet.time_base)
            self._first_s = begin_s if self._first_s is None else min(begin_s, self._first_s)
            self._last_s = max(self._last_s, begin_s + step_s)
            self._sum_s += step_s

    @property
    def missing(self) -> str | None:
        """What is missing; None where nothing is, or it is not known."""
        return self._left_out() or self._short() or self._holed()

    def _left_out(self) -> str | None:
        if self._filled >= self._indexed:
            return None
        return f"is not whole: {self._indexed - self._filled} of {self._indexed} packets could not be read"

    def _short(self) -> str | None:
        stated_s = self._stated_s
        if stated_s is None or self._first_s is None or (self._in_segments and not self._sum_s):
            return None
        came_s = self._sum_s if self._in_segments else self._last_s - self._first_s
        exact = self._in_segments and not stated_s.is_integer()  # older playlists round the length of each segment
        slack_s = max(MISSING_S, (MISSING_OF_EXACT if exact else MISSING) * stated_s)
        if came_s >= stated_s - slack_s - MISSING_STEPS * came_s / max(1, self._came):
            return None
        return f"is not whole: {came_s:.1f} of {stated_s:.1f} s came"

    def _holed(self) -> str | None:
        if self._gaps is None or self._unit is None or not (lost := self._gaps.lost):
            return None
        return f"is not whole: at least {float(lost * self._unit):.2f} s within it could not be read"


def _own_duration_s(stream: VideoStream) -> float | None:
    """What a container says of one stream; Matroska does so in a tag."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    match = DURATION_TAG.fullmatch(stream.metadata.get("DURATION", ""))
    return None if match is None else 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])
