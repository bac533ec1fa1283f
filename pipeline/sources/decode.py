"""Packets -> frames, and how many packets gave none: of all that a source sends, nothing goes unsaid."""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import av
from av.codec.context import Flags
from av.video.stream import VideoStream

from engines.errors import SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Missed
from pipeline.sources.hwaccel import HardwareDecoder
from pipeline.sources.ledger import PacketLedger

VP8_SHOWN: Final = 0x10  # bit of the first byte
MAX_KEPT: Final = 1000  # packets that are kept to be decoded again; of a stream with fewer key frames, none are

# output_corrupt: damaged frames are given, and known by their mark. unaligned: all that is to be cropped is, on the
# left, too. copy_opaque: a frame knows the packet that it came of.
FLAGS: Final = Flags.output_corrupt | Flags.unaligned | Flags.copy_opaque


@dataclass(frozen=True, slots=True)
class PacketMark:
    """Marks a packet, as its ``opaque``; an object of its own for each, since PyAV knows them by their identity."""

    number: int | None = None  # as it was decoded
    came_s: float | None = None  # when it did, time.monotonic(), where it was read ahead


class DecodesPackets(Protocol):
    """What decodes, on the CPU or on a device."""

    def decode(self, packet: "av.Packet[VideoStream]") -> list[av.VideoFrame]:
        """The frames that a packet completes, or all that are left for one without data."""
        ...


class Decoder:
    """Decodes the packets of one stream. For one thread.

    Every packet gives a frame or is told as :class:`Missed`: ``undecodable``, or ``encrypted``; a damaged frame is told
    as ``damaged`` unless ``settings.damaged`` is "show".

    Args:
        stream: of an open container; nothing of it was decoded yet.
        settings: what to decode on, and what becomes of damaged frames.
        in_time: the source gives frames no faster than they are shown, and each is wanted at once.
    """

    def __init__(self, stream: VideoStream, settings: StreamSettings, in_time: bool) -> None:
        self._stream, self._context = stream, stream.codec_context
        self._shows_damaged = settings.damaged == "show"
        self._ledger = PacketLedger()
        self._count = 0
        self._over = False
        # Frame threads hold a picture back for each thread: half a second of a camera on 16 cores. A live
        # source need not be decoded faster than it comes.
        self._threads = settings.decode == "ffmpeg" and not in_time
        self._decodes: DecodesPackets = self._context
        if settings.decode != "ffmpeg":
            self._decodes = HardwareDecoder(stream, settings.decode, settings.decode_gpu)
        else:
            stream.thread_type = "AUTO" if self._threads else "SLICE"
        self._context.flags |= FLAGS
        self._groups: deque[list[av.Packet[VideoStream]]] = deque()  # from a key frame to the next, while any is open

    def decode(self, packet: "av.Packet[VideoStream]") -> Iterator[av.VideoFrame | Missed]:
        """The frames that a packet completes, in the order in which they are shown."""
        if not packet.size:  # to a decoder it means the end; AVI has such for pictures that are shown for longer
            return
        if packet.has_sidedata("encryption_info"):
            yield Missed(1, "encrypted")
            return
        number, self._count = self._count, self._count + 1
        packet.opaque = PacketMark(number, mark_of(packet).came_s)
        if not (packet.is_discard or is_hidden(self._context.name, packet)):
            self._ledger.sent(number)
        if self._threads:
            self._keep(packet, number)
        try:
            frames = self._decodes.decode(packet)
        except av.FFmpegError:
            # With frame threads it may have been an earlier packet, which is found when later ones have given frames.
            if not self._threads and (lost := self._ledger.refused(number)):
                yield Missed(lost, "undecodable")
            return
        yield from self._taken(frames)

    def flush(self) -> Iterator[av.VideoFrame | Missed]:
        """The frames that the decoder still holds; no packet comes any more."""
        if self._over:
            return
        self._over = True
        end = self._end_packet()
        try:
            frames = self._decodes.decode(end)
        except (av.FFmpegError, SourceError):
            frames = []
        yield from self._taken(frames)
        if self._threads and self._ledger.oldest is not None:
            yield from self._taken(self._decoded_again())
        if lost := self._ledger.end():
            yield Missed(lost, "undecodable")

    def _end_packet(self) -> "av.Packet[VideoStream]":
        end: av.Packet[Any] = av.Packet()
        end.stream, end.time_base = self._stream, self._stream.time_base or end.time_base
        return end

    def _taken(self, frames: Iterable[av.VideoFrame]) -> Iterator[av.VideoFrame | Missed]:
        for frame in frames:
            if lost := self._ledger.gave(_number(frame), frame.interlaced_frame):
                yield Missed(lost, "undecodable")
            if frame.is_corrupt and not self._shows_damaged:
                yield Missed(1, "damaged")
            else:
                yield frame

    # A frame thread that fails at the end takes the frames of those behind it along: the last group is decoded again.

    def _keep(self, packet: "av.Packet[VideoStream]", number: int) -> None:
        if packet.is_keyframe or not self._groups:
            self._groups.append([])
        self._groups[-1].append(packet)
        oldest = self._ledger.oldest
        while len(self._groups) > 1 and (oldest is None or (_number(self._groups[1][0]) or 0) <= oldest):
            self._groups.popleft()
        if sum(map(len, self._groups)) > MAX_KEPT:
            self._groups.clear()

    def _decoded_again(self) -> Iterator[av.VideoFrame]:
        """The frames of packets that have given none, in one thread."""
        context: Any = av.VideoCodecContext.create(self._context.codec, "r")
        context.extradata = self._context.extradata
        context.thread_count, context.flags = 1, context.flags | FLAGS
        for packet in (*(packet for group in self._groups for packet in group), self._end_packet()):
            try:
                frames = context.decode(packet)
            except av.FFmpegError:
                continue
            yield from (each for each in frames if (number := _number(each)) is not None and number in self._ledger)


def is_hidden(codec: str, packet: "av.Packet[VideoStream]") -> bool:
    """Whether a packet is only there for others to refer to: VP8's frames that are not shown (RFC 6386, 9.1)."""
    return codec in ("vp8", "libvpx") and not memoryview(packet)[0] & VP8_SHOWN


def mark_of(item: "av.Packet[VideoStream] | av.VideoFrame") -> PacketMark:
    """Return the mark of a packet, or of the packet that a frame came of."""
    return item.opaque if isinstance(item.opaque, PacketMark) else PacketMark()


def _number(item: "av.Packet[VideoStream] | av.VideoFrame") -> int | None:
    return mark_of(item).number
