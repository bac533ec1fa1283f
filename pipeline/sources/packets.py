"""Packets of a source, on their way to clips and to whoever looks on, with the capture times of their frames."""

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final, Literal, Self, cast, get_args

import av
import structlog
from av.video.stream import VideoStream

from engines.priority import give_way
from pipeline.frames.jpeg import JpegEncoder, jpeg_planes
from pipeline.frames.picture import Picture
from pipeline.settings.schema import PacketSettings
from pipeline.sources.base import Decoded
from pipeline.sources.display import pixel_aspect
from pipeline.wire.packet_ring import PacketRing
from pipeline.wire.packet_sockets import HIGH_WATER_MARK, PacketSender
from pipeline.wire.packets import AS_THEY_CAME, Codec, PacketMessage
from pipeline.wire.parameter_sets import is_annex_b, parameter_sets

MAX_AGAIN: Final = HIGH_WATER_MARK // 2  # packets that are sent again for who is new
MAX_HELD: Final = 256  # packets whose frames have not come yet
MAX_REORDERED: Final = 16  # frames shown before one that is decoded before them: as many as H.264 and H.265 keep
MAX_GROUP_BYTES: Final = 64_000_000  # since the last key frame, kept for who reads from now on
NAMES: Final[dict[str, Codec]] = {"libdav1d": "av1", "libaom-av1": "av1"}  # decoders that are not named as their codec
SAME_S: Final = 1e-4  # by which times of one picture may differ that were rounded
ASK_S: Final = 0.5  # how long a thread that makes pictures rests at the most

log = structlog.get_logger()


def codec_of(context: Any) -> Codec | None:
    """Return the codec of what a context decodes, if its packets are passed on as they came."""
    name = context.name.partition("_")[0]  # h264_cuvid
    name = NAMES.get(name, name)
    return cast(Codec, name) if name in AS_THEY_CAME and name in get_args(Codec) else None


@dataclass(frozen=True, slots=True)
class PacketTarget:
    """Where the packets of a run go.

    Attributes:
        address: of the hub's inner side.
        settings: say how pictures are made where there are no packets.
    """

    address: str
    settings: PacketSettings


@dataclass(slots=True)
class _Held:
    """A packet, and when its frame was captured, once that is known."""

    packet: "av.Packet[VideoStream]"
    key: bool
    nbytes: int
    number: int = -1  # as it is sent
    captured_ns: int = 0
    time_s: float = 0.0
    format: "_Format | None" = field(default=None, repr=False)

    @property
    def source_s(self) -> float | None:
        """The source's own time of it."""
        packet = self.packet
        return None if packet.pts is None or packet.time_base is None else float(packet.pts * packet.time_base)


@dataclass(frozen=True, slots=True)
class _Format:
    codec: Codec
    extradata: bytes
    size: tuple[int, int]
    aspect: tuple[int, int]
    rotation: Literal[0, 90, 180, 270]


class PacketTap:
    """Passes the packets of one stream on, in the order of decoding, once it is known when each frame was captured.

    Nothing is copied before somebody reads. For the stream's thread.

    Args:
        stream: its name.
        target: where they go.
    """

    def __init__(self, stream: str, target: PacketTarget) -> None:
        self._stream, self._target = stream, target
        self._session, self._count = time.time_ns(), 0
        self._sender = PacketSender(target.address, stream)
        self._source: VideoStream | None = None  # as long as its packets are passed on as they came
        self._held: deque[_Held] = deque()
        self._ring: PacketRing[_Held] = PacketRing(0.0, MAX_GROUP_BYTES)
        self._last: tuple[int, int, float] | None = None  # pts, captured_ns and time_s of the frame before
        self._format: _Format | None = None
        self._late: int | None = None  # the first packet's pts - dts
        self._tells_order = False  # whether time stamps tell in which order pictures are shown
        self._rotation: Literal[0, 90, 180, 270] = 0
        self._pictures: JpegSender | None = None

    def opened(self, source: VideoStream) -> None:
        """The source was opened, or opened again: what follows does not go on from what was before."""
        self._release_all()
        self._ring.clear()
        self._last = self._format = self._late = None
        self._tells_order = False
        self._source = source if codec_of(source.codec_context) is not None else None

    def took(self, packet: "av.Packet[VideoStream]") -> None:
        """The source gave a packet, which is about to be decoded."""
        if self._source is None or not packet.size:
            return
        self._held.append(_Held(packet, packet.is_keyframe, packet.size))
        if packet.pts is not None and packet.dts is not None:
            late = packet.pts - packet.dts
            self._late = late if self._late is None else self._late
            self._tells_order = self._tells_order or late != self._late
        if len(self._held) > MAX_HELD:
            self._release(self._held.popleft())

    def passed(self, packet: "av.Packet[VideoStream]", captured_ns: int, time_s: float) -> None:
        """The source gave a packet that is not decoded, whose frame was captured then."""
        if self._source is not None and packet.size:
            self._look()
            self._release(_Held(packet, packet.is_keyframe, packet.size, captured_ns=captured_ns, time_s=time_s))

    def shown(self, given: Decoded | None, picture: Picture, captured_ns: int, time_s: float) -> None:
        """A frame was captured."""
        if self._source is None or given is None:
            self._show_picture(picture, captured_ns, time_s)
            return
        self._look()
        self._rotation = given.rotation
        for held in self._held:
            if not held.captured_ns and self._gave(held, given):
                held.captured_ns, held.time_s = captured_ns, time_s
                self._last = held.packet.pts or 0, captured_ns, time_s
                break
        while self._held and (self._held[0].captured_ns or self._passed(self._held[0], given)):
            self._release(self._held.popleft())

    def close(self) -> None:
        """Pass on what is left."""
        self._release_all()
        self._sender.close()
        if self._pictures is not None:
            self._pictures.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _gave(self, held: _Held, given: Decoded) -> bool:
        """Whether a frame came of a packet; what deinterlaces forgets its mark, and is known by its time."""
        if given.packet is not None or given.source_s is None:
            return given.packet is not None and given.packet is held.packet.opaque
        return held.source_s is not None and abs(held.source_s - given.source_s) < SAME_S

    def _passed(self, held: _Held, given: Decoded) -> bool:
        """Whether a frame that comes later was captured already: this packet gives none that is shown."""
        assert self._source is not None
        if self._tells_order or not self._source.codec_context.has_b_frames:
            at_s, given_s = held.source_s, given.source_s
            return at_s is not None and given_s is not None and at_s < given_s - SAME_S
        return sum(other.captured_ns > 0 for other in self._held) > MAX_REORDERED

    def _release_all(self) -> None:
        while self._held:
            self._release(self._held.popleft())

    def _release(self, held: _Held) -> None:
        if not held.captured_ns:
            if self._last is None:
                return  # before the first frame that is captured: an earlier capture passed it on
            pts, captured_ns, time_s = self._last
            step_s = float(((held.packet.pts or pts) - pts) * (held.packet.time_base or Fraction(0)))
            held.captured_ns, held.time_s = captured_ns + round(step_s * 1e9), time_s + step_s
        if held.key or self._format is None:
            self._format = self._told_format(held.packet)
        held.format, held.number, self._count = self._format, self._count, self._count + 1
        self._ring.add(held)
        if self._sender.wanted:
            self._send(held)

    def _look(self) -> None:
        """See who reads; whoever is new gets what there was since the last key frame.

        Unless that is so much that others, who get it again, would lose packets by it.
        """
        if self._sender.look() and len(group := list(self._ring.newest())) <= MAX_AGAIN:
            for held in group:
                self._send(held)

    def _told_format(self, packet: "av.Packet[VideoStream]") -> "_Format | None":
        assert self._source is not None
        context = self._source.codec_context
        codec, extradata = codec_of(context), context.extradata or b""
        if codec is None:
            return None
        if codec != "av1" and (not extradata or is_annex_b(extradata)):
            # What a key frame brings along is what it is decoded with; a camera may have been set up anew.
            extradata = parameter_sets(codec, bytes(packet)) or extradata
        aspect = pixel_aspect(self._source.sample_aspect_ratio)
        size = (max(1, context.width), max(1, context.height))
        return _Format(codec, extradata, size, (aspect.numerator, aspect.denominator), self._rotation)

    def _send(self, held: _Held) -> None:
        if held.format is None:
            return
        packet, made = held.packet, held.format
        base = packet.time_base or Fraction(1, 90_000)
        self._sender.send(
            PacketMessage(
                stream=self._stream,
                session=self._session,
                number=held.number,
                codec=made.codec,
                extradata=made.extradata,
                size=made.size,
                aspect=made.aspect,
                rotation=made.rotation,
                time_base=(base.numerator, base.denominator),
                pts=packet.pts,
                dts=packet.dts,
                key=held.key,
                captured_ns=held.captured_ns,
                time_s=held.time_s,
                data=bytes(packet),
            )
        )

    def _show_picture(self, picture: Picture, captured_ns: int, time_s: float) -> None:
        if self._pictures is None:
            self._pictures = JpegSender(self._stream, self._target, self._session)
        self._pictures.show(picture, captured_ns, time_s)


class JpegSender:
    """Sends pictures of a source without packets that browsers play, as JPEG and at a rate, while somebody reads.

    They are encoded in a thread of low priority; while it is behind, pictures are left out, and counted.
    """

    def __init__(self, stream: str, target: PacketTarget, session: int) -> None:
        self._stream, self._target, self._session = stream, target, session
        self._changed = threading.Condition()  # of all below
        self._next: tuple[Picture, int, float] | None = None
        self._wanted = self._over = False
        self._due_s = 0.0
        self.left_out = 0
        self._thread = threading.Thread(target=self._run, name=f"pictures {stream}", daemon=True)
        self._thread.start()

    def show(self, picture: Picture, captured_ns: int, time_s: float) -> None:
        """A picture was captured; it is sent if one is due."""
        if not self._wanted or time_s < self._due_s:
            return
        step_s = 1.0 / self._target.settings.jpeg_rate_hz
        self._due_s = max(self._due_s + step_s, time_s)
        with self._changed:
            self.left_out += self._next is not None
            self._next = picture, captured_ns, time_s
            self._changed.notify()

    def close(self) -> None:
        """Send none any more."""
        with self._changed:
            self._over = True
            self._changed.notify()
        self._thread.join()
        if self.left_out:
            log.warning("pictures left out", stream=self._stream, count=self.left_out, cause="the processor is full")

    def _run(self) -> None:
        give_way()
        sender = PacketSender(self._target.address, self._stream)
        encoder, number = JpegEncoder(self._target.settings.jpeg_quality), 0
        try:
            while (shown := self._take(sender)) is not None or not self._over:
                if shown is not None:
                    sender.send(self._message(encoder, number, *shown))
                    number += 1
        finally:
            sender.close()

    def _take(self, sender: PacketSender) -> tuple[Picture, int, float] | None:
        sender.look()
        with self._changed:
            self._wanted = sender.wanted
            self._changed.wait_for(lambda: self._next is not None or self._over, ASK_S)
            shown, self._next = self._next, None
            return shown

    def _message(
        self, encoder: JpegEncoder, number: int, picture: Picture, captured_ns: int, time_s: float
    ) -> PacketMessage:
        ticks = round(time_s * 90_000)
        return PacketMessage(
            stream=self._stream,
            session=self._session,
            number=number,
            codec="mjpeg",
            extradata=b"",
            size=(picture.width, picture.height),
            time_base=(1, 90_000),
            pts=ticks,
            dts=ticks,
            key=True,
            captured_ns=captured_ns,
            time_s=time_s,
            data=encoder.encode(jpeg_planes(picture)),
        )
