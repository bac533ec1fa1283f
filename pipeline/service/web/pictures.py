"""Packets that a browser does not play -> JPEG pictures for it, in one thread of low priority."""

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from typing import Any, Final

import av
from av.codec.context import Flags

from engines.priority import give_way
from pipeline.frames.jpeg import JpegEncoder, jpeg_planes
from pipeline.sources.display import TURNED, Look, Tags, pixel_aspect, planar, planes_of
from pipeline.wire.packets import PacketMessage

QUALITY: Final = 80
MAX_PIXELS: Final = 2**26  # of a picture: what says that it has more is damaged


# All pictures of all viewers are made here, one after the other, of what the processor has left.
MAKING: Final = ThreadPoolExecutor(1, "pictures", initializer=give_way)


class PictureMaker:
    """Makes JPEG pictures of one stream's packets, as they are displayed, so many a second.

    Pictures depend on those before them: all are decoded, from a key frame on, and those that are due become JPEG.
    After packets were lost, those up to the next key frame are left out.

    Args:
        rate_hz: pictures a second, at the most.
    """

    def __init__(self, rate_hz: float) -> None:
        self._step_s = 1.0 / rate_hz
        self._due_s = -math.inf
        self._encoder = JpegEncoder(QUALITY)
        self._context: Any = None
        self._last: PacketMessage | None = None

    def take(self, packet: PacketMessage, now_s: float) -> list[tuple[bytes, int]]:
        """Return the pictures that come of the stream's next packet and are due: JPEG, and when each was captured.

        JPEG packets are passed on as they are; of what cannot be decoded comes nothing.
        """
        if packet.codec == "mjpeg":
            return [(packet.data, packet.captured_ns)] if self._is_due(now_s) else []
        last, self._last = self._last, packet
        if last is None or (packet.session, packet.number, packet.format) != (
            last.session,
            last.number + 1,
            last.format,
        ):
            self._context = None
        if self._context is None and packet.key:
            self._context = _decoder(packet)
        if self._context is None:
            return []
        try:
            frames = self._context.decode(_packet_of(packet))
            return [self._made(frame) for frame in frames if self._is_due(now_s)]
        except av.FFmpegError:
            return []

    def _is_due(self, now_s: float) -> bool:
        due = now_s >= self._due_s
        if due:
            self._due_s = now_s + self._step_s
        return due

    def _made(self, frame: av.VideoFrame) -> tuple[bytes, int]:
        shown = planar(frame)
        packet: Any = frame.opaque  # that it came of
        tags = Tags(shown.color_range, shown.colorspace, None)
        look = replace(Look.of(tags, pixel_aspect(Fraction(*packet.aspect))), orientation=TURNED[packet.rotation])
        return self._encoder.encode(jpeg_planes(look.picture(planes_of(shown)))), packet.captured_ns


def _decoder(packet: PacketMessage) -> Any:
    context: Any = av.VideoCodecContext.create(packet.codec, "r")
    context.thread_count = 1
    context.extradata = packet.extradata or None
    context.flags |= Flags.unaligned | Flags.copy_opaque
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return context


def _packet_of(packet: PacketMessage) -> "av.Packet[Any]":
    made: av.Packet[Any] = av.Packet(packet.data)
    made.pts, made.dts, made.time_base = packet.pts, packet.dts, Fraction(*packet.time_base)
    made.opaque = packet
    return made
