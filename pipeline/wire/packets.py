"""Packets as a camera encoded them, from capture to clips and the page: MessagePack on a PUB socket."""

from typing import Annotated, Final, Literal, get_args

import msgspec

from engines.errors import MessageError, one_line
from engines.undecodable import UNDECODABLE
from pipeline.settings.schema import StreamName

Codec = Literal["h264", "hevc", "av1", "mjpeg"]
AS_THEY_CAME: Final = ("h264", "hevc", "av1")  # codecs whose packets are sent; of any other, pictures as JPEG are
TOPIC: Final = b"packet/"

assert set(AS_THEY_CAME) < set(get_args(Codec))

Side = Annotated[int, msgspec.Meta(ge=1, le=65535)]
Part = Annotated[int, msgspec.Meta(ge=1, lt=2**31)]


class PacketMessage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One encoded picture of a stream, in the order in which they are decoded."""

    stream: StreamName
    session: int  # when the stream's capture began, Unix time in nanoseconds: a later one takes an earlier one's place
    number: int  # one more with each packet of the session: what is missing was lost
    codec: Codec
    extradata: bytes  # of the codec, as the container or the camera told it
    size: tuple[Side, Side]  # width and height, encoded
    aspect: tuple[Part, Part] = (1, 1)  # of a pixel, width to height
    rotation: Literal[0, 90, 180, 270] = 0  # clockwise, before it is shown
    time_base: tuple[Part, Part]  # of the two below, in seconds
    pts: int | None
    dts: int | None
    key: bool  # nothing before it is needed to decode it
    captured_ns: int  # Unix time: captured_at of the frame that it gives
    time_s: float  # stream time of that frame
    data: bytes

    @property
    def format(self) -> tuple[object, ...]:
        """What a reader has to begin anew for when it changes."""
        return self.codec, self.extradata, self.size, self.aspect, self.rotation

    @property
    def decoded_s(self) -> float:
        """Stream time at which it is decoded: all pictures up to then were sent before."""
        if self.pts is None or self.dts is None:
            return self.time_s
        return self.time_s - (self.pts - self.dts) * self.time_base[0] / self.time_base[1]

    @property
    def nbytes(self) -> int:
        """Of its data."""
        return len(self.data)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PacketMessage)


def pack_packet(packet: PacketMessage) -> tuple[bytes, bytes]:
    """Return the two parts of a message: topic and body."""
    return packet_topic(packet.stream), _encoder.encode(packet)


def unpack_packet(body: bytes) -> PacketMessage:
    """Return the packet in the body of a message.

    Raises:
        MessageError: it is none.
    """
    try:
        return _decoder.decode(body)
    except UNDECODABLE as error:
        raise MessageError(f"a packet does not follow the schema: {one_line(error)}") from None


def packet_topic(stream: str) -> bytes:
    """Return what a subscriber of a stream's packets subscribes to: ``packet/<stream>``, whole, with a closing slash.

    >>> packet_topic("door")
    b'packet/door/'
    """
    return TOPIC + stream.encode() + b"/"
