"""Packets of a stream -> what a browser is sent to play it live; pure."""

import msgspec

from engines.errors import MessageError
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packets import PacketMessage


class LiveVideo:
    """What one viewer of a stream is sent: first a JSON text, then MP4 from a key frame on.

    The text is ``{"codec": MIME, "base_ns": N}``: a picture was captured at ``base_ns + 1e9 * media time``, Unix time.
    After packets were lost, those up to the next key frame are left out. Where the format of the stream changes, or its
    capture begins anew, it is :attr:`over`: the viewer begins again.
    """

    def __init__(self) -> None:
        self.over = False
        self._fragmenter: Fragmenter | None = None
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
            return (fragment,) if fragment else ()
        made = self._fragmenter = Fragmenter(packet)
        made.fragment(packet)
        said = msgspec.json.encode({"codec": made.mime, "base_ns": made.base_ns}).decode()
        return said, made.init
