"""Frames between hosts: the message, and what a receiver makes of a row of them. Pure: no socket, no clock.

A message has a header, MessagePack of one of the structs below, and after that of a picture its payload: three parts
with the planes of YUV 4:2:0, or one with a JPEG of them. Whatever comes from the network is checked against the header
and the limits here, and nothing in it is ever executed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Literal

import av
import msgspec
import numpy as np

from engines.arrays import Plane
from engines.errors import MessageError, one_line
from engines.undecodable import UNDECODABLE
from pipeline.frames.jpeg import JpegDecoder, JpegEncoder, Planes, pixels_of
from pipeline.frames.picture import Matrix, Picture
from pipeline.frames.types import Frame
from pipeline.settings.schema import StreamName

Encoding = Literal["jpeg", "raw"]
Buffer = bytes | memoryview

SCHEMA: Final = 1
LONGEST_HEADER: Final = 4096  # bytes
LONGEST_SIDE: Final = 16384  # pixels
MAX_PIXELS: Final = 2**26
LONGEST_TIME_S: Final = 1e9
LONGEST_CAUSE: Final = 300  # characters
# More than a day of frames at once is no loss but another beginning.
MAX_MISSING: Final = 10_000_000

Count = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]
Side = Annotated[int, msgspec.Meta(ge=1, le=LONGEST_SIDE)]


class PictureHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="picture"):
    """Before the payload of one picture."""

    schema: Literal[1]
    stream: StreamName
    session: Nanoseconds  # when the sender began, Unix time: a later one takes an earlier one's place
    seq: Count  # of the frame at the sender
    captured_ns: Nanoseconds  # Unix time there
    time_s: float  # stream time there
    width: Side
    height: Side
    matrix: Matrix
    full_range: bool
    encoding: Encoding


class LossHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag="loss"):
    """The sender has no pictures any more, for the time being or for good; there is no payload."""

    schema: Literal[1]
    stream: StreamName
    session: Nanoseconds
    cause: Annotated[str, msgspec.Meta(max_length=LONGEST_CAUSE)]


Header = PictureHeader | LossHeader

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Header)


@dataclass(frozen=True, slots=True)
class Origin:
    """What the sender of a picture knows about it."""

    captured_ns: int  # Unix time there
    time_s: float  # stream time, going on when the sender begins again
    missing: int  # frames of the source before it that did not arrive


def pack_picture(frame: Frame, session: int, encoder: JpegEncoder | None) -> list[Buffer]:
    """The message of a frame; raw without an encoder. RGB becomes 4:2:0, other planes go as they are."""
    picture = frame.picture
    planes = planes_of(picture)
    header = PictureHeader(
        schema=SCHEMA,
        stream=frame.stream,
        session=session,
        seq=frame.seq,
        captured_ns=frame.captured_ns,
        time_s=frame.time_s,
        width=picture.width,
        height=picture.height,
        matrix=picture.matrix,
        full_range=picture.full_range,
        encoding="raw" if encoder is None else "jpeg",
    )
    if encoder is not None:
        return [_encoder.encode(header), encoder.encode(planes)]
    return [_encoder.encode(header), *(np.ascontiguousarray(plane).reshape(-1).data for plane in planes)]


def pack_loss(stream: str, session: int, cause: str) -> list[Buffer]:
    """The message that a stream has no pictures, and why."""
    return [_encoder.encode(LossHeader(SCHEMA, stream, session, cause[:LONGEST_CAUSE]))]


def planes_of(picture: Picture) -> Planes:
    """Return the planes of a picture in 4:2:0, for an encoder."""
    if len(picture.planes) == 1:
        # Half the bytes, and like any other camera's: BT.601, 16-235, which is what a picture says if not told.
        frame = av.VideoFrame.from_ndarray(picture.planes[0], "rgb24").reformat(format="yuv420p")
        y, u, v = map(pixels_of, frame.planes)
    else:
        y, u, v = picture.planes
    return y, u, v


def unpack(parts: Sequence[Buffer], stream: str, decoder: JpegDecoder) -> tuple[PictureHeader, Picture] | LossHeader:
    """What a message for ``stream`` says; raw planes stay in ``parts``.

    Raises:
        MessageError: it is no such message.
    """
    if not parts or len(parts[0]) > LONGEST_HEADER:
        raise MessageError(f"it has no header, or one of more than {LONGEST_HEADER} bytes")
    try:
        header = _decoder.decode(parts[0])
    except UNDECODABLE as error:
        raise MessageError(f"its header is not allowed: {one_line(error)}") from None
    if header.stream != stream:
        raise MessageError(f"it is of stream {header.stream!r}, but must be of {stream!r}")
    if isinstance(header, LossHeader):
        _check_parts(parts, 1)
        return header
    if not 0.0 <= header.time_s <= LONGEST_TIME_S:  # NaN, too
        raise MessageError(f"time_s is {header.time_s}, but must be 0 to {LONGEST_TIME_S:g}")
    if header.width * header.height > MAX_PIXELS:
        raise MessageError(f"a picture of {header.width}x{header.height} has more than {MAX_PIXELS} pixels")
    if header.encoding == "raw":
        planes = _raw_planes(header, parts)
    else:
        _check_parts(parts, 2)
        planes = decoder.decode(parts[1], header.width, header.height)
    return header, Picture(planes, header.width, header.height, header.full_range, header.matrix)


def _raw_planes(header: PictureHeader, parts: Sequence[Buffer]) -> Planes:
    _check_parts(parts, 4)
    half = ((header.height + 1) // 2, (header.width + 1) // 2)
    shapes = ((header.height, header.width), half, half)
    y, u, v = (_plane(part, shape) for part, shape in zip(parts[1:], shapes, strict=True))
    return y, u, v


def _plane(part: Buffer, shape: tuple[int, int]) -> Plane:
    if len(part) != shape[0] * shape[1]:
        raise MessageError(f"a plane has {len(part)} bytes, but {shape[1]}x{shape[0]} pixels must have as many bytes")
    plane = np.frombuffer(part, np.uint8).reshape(shape)
    plane.flags.writeable = False
    return plane


def _check_parts(parts: Sequence[Buffer], count: int) -> None:
    if len(parts) != count:
        raise MessageError(f"it has {len(parts)} parts, but must have {count}")


class Arrivals:
    """The pictures of one stream that arrive: whose they are, how many are missing, their stream time."""

    def __init__(self) -> None:
        self._session: int | None = None
        self._seq = -1
        self._offset_s = 0.0  # from the sender's stream time to ours
        self._time_s = 0.0  # of the last one, ours
        self._arrived_s = 0.0
        self._trusted = False  # whether what came last is a sign that its sender lives

    def check(self, header: Header) -> None:
        """Refuse with MessageError what an earlier sender than the present one says."""
        if self._trusted and self._session is not None and header.session < self._session:
            raise MessageError("another sender, which began later, is sending")

    def silent(self) -> None:
        """Nothing was heard for long: the next sender may be any, also one whose clock goes wrong."""
        self._trusted = False

    def take(self, header: PictureHeader, now_s: float) -> Origin:
        """A picture arrived at ``now_s``, by this host's monotonic clock.

        Frames before the first one that arrived of a sender are not missing: it may have begun long ago.

        Raises:
            MessageError: it is not of the present sender, or not in order.
        """
        self.check(header)
        missing = 0
        if header.session == self._session:
            missing = header.seq - self._seq - 1
            if missing < 0:
                raise MessageError(f"seq is {header.seq}, but must be more than {self._seq}")
            missing = missing if missing <= MAX_MISSING else 0
        elif self._session is not None:
            self._offset_s = self._time_s + (now_s - self._arrived_s) - header.time_s
        self._session, self._seq, self._trusted = header.session, header.seq, True
        self._time_s, self._arrived_s = header.time_s + self._offset_s, now_s
        return Origin(header.captured_ns, self._time_s, missing)
