"""Packets of a stream -> what a browser is sent to play it live; pure."""

from typing import Final

import msgspec

from engines.errors import MessageError
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packets import PacketMessage

EXACT_NS: Final = 2_000_000  # messages tell milliseconds


class LiveVideo:
    """What one viewer of a stream is sent: first a JSON text, then MP4 from a key frame on.

    The text is ``{"codec": MIME, "base_ns": N}``: a picture was captured at ``base_ns + 1e9 * media time``, Unix time.
    Where that changes, as of a file that is read more slowly than it was taken, ``{"base_ns": N, "from_s": S}`` tells
    it for pictures from a media time on. After packets were lost, those up to the next key frame are left out. Where
    the format of the stream changes, or its capture begins anew, it is :attr:`over`: the viewer begins again.
    """

    def __init__(self) -> None:
        self.over = False
        self._fragmenter: Fragmenter | None = None
        self._base_ns = 0  # that was told last
        self._last: PacketMessage | None = None
        self._decodable = False  # whether all is here since a key frame

    def take(self, packet: PacketMessage) -> tuple[str | bytes, ...]:
        """Return what is sent on the stream's next packet, in order.

        Raises:
            MessageError: the stream's packets cannot be put into MP4: pictures are to be shown in their place.
        """
        last, self._last = self._last, packet
        if packet.codec == "mjpeg":
            raise MessageError(f"stream {packet.stream!r}: it has no packets that browsers play")
        if self._fragmenter is not None and last is not None:
            self.over = self.over or packet.session != last.session or packet.format != last.format
        follows = last is not None and packet.session == last.session and packet.number == last.number + 1
        self._decodable = packet.key or (self._decodable and follows)
        if self.over or not self._decodable:
            return ()
        if self._fragmenter is not None:
            fragment = self._fragmenter.fragment(packet)
            return (*self._base(self._fragmenter, packet), *((fragment,) if fragment else ()))
        made = self._fragmenter = Fragmenter(packet)
        made.fragment(packet)
        self._base_ns = made.base_ns
        said = msgspec.json.encode({"codec": made.mime, "base_ns": made.base_ns}).decode()
        return said, made.init

    def _base(self, fragmenter: Fragmenter, packet: PacketMessage) -> tuple[str, ...]:
        """The text where a picture's capture time is another one than would follow from what was told."""
        media_s = packet.time_s - fragmenter.begin_s
        base_ns = packet.captured_ns - round(media_s * 1e9)
        if abs(base_ns - self._base_ns) <= EXACT_NS:
            return ()
        self._base_ns = base_ns
        return (msgspec.json.encode({"base_ns": base_ns, "from_s": round(media_s, 6)}).decode(),)
