"""One clip: packets of a stream as fragmented MP4, which plays while it is written and after any end."""

import os
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

import av
import msgspec

from engines.files import PRIVATE
from pipeline.frames.jpeg import JpegDecoder, frame_of
from pipeline.sinks.segments import segment_name
from pipeline.wire.fmp4 import Fragmenter
from pipeline.wire.packets import PacketMessage
from pipeline.wire.parameter_sets import parameter_sets

ENCODER: Final = {"preset": "ultrafast", "tune": "zerolatency", "crf": "23", "threads": "1"}
KEY_EVERY_S: Final = 2.0  # of clips that are encoded here
TIME_BASE: Final = Fraction(1, 90_000)


class ClipFile:
    """A file that packets of one format are appended to, from a key frame on.

    Its name tells the stream and, in UTC to the millisecond, when media time 0 was captured.

    Args:
        folder: of the clips.
        first: packet, a key frame.

    Raises:
        OSError: it cannot be made.
        MessageError: what the packets hold cannot be put into MP4.
    """

    def __init__(self, folder: Path, first: PacketMessage) -> None:
        self.begin_s, self.nbytes = first.time_s, 0
        self._coder = PictureCoder(first) if first.codec == "mjpeg" else None
        if self._coder is not None:
            first = self._coder.encode(first)
        self._fragmenter, self._first = Fragmenter(first), first
        self.media_begin_s, self.last_s = self._fragmenter.begin_s, first.time_s
        self.path, self._file = _new(folder, first.stream, self._fragmenter.base_ns)
        self._put(self._fragmenter.init)

    @property
    def name(self) -> str:
        """In the folder of clips."""
        return self.path.name

    @property
    def is_there(self) -> bool:
        """Whether nobody has deleted it."""
        return self.path.exists()

    def write(self, packet: PacketMessage) -> None:
        """Append the next packet, which lasts until the one after it.

        Raises:
            OSError: it cannot be written.
            MessageError: a picture of it is damaged.
        """
        if self._coder is not None:  # the first was encoded when the file was made
            packet = self._first if packet.number == self._first.number else self._coder.encode(packet)
        self.last_s = max(self.last_s, packet.time_s)
        self._put(self._fragmenter.fragment(packet))

    def close(self) -> None:
        """Write the last picture, and close the file."""
        with self._file:
            self._put(self._fragmenter.rest())

    def _put(self, data: bytes) -> None:
        if data:
            self._file.write(data)
            self._file.flush()  # whoever plays it now sees it
            self.nbytes += len(data)


class PictureCoder:
    """JPEG pictures -> H.264: what a browser plays. One thread encodes, as fast as it goes.

    Args:
        first: picture.
    """

    def __init__(self, first: PacketMessage) -> None:
        self._decoder = JpegDecoder()
        self._size = first.size
        width, height = first.size
        self._context = av.VideoCodecContext.create("libx264", "w")
        self._context.width, self._context.height = width // 2 * 2, height // 2 * 2
        self._context.pix_fmt, self._context.time_base = "yuv420p", TIME_BASE
        self._context.options = ENCODER
        self._sets = b""
        self._key_s: float | None = None

    def encode(self, picture: PacketMessage) -> PacketMessage:
        """Return a picture in H.264; MessageError where it is damaged."""
        planes = self._decoder.decode(picture.data, *self._size)
        frame = frame_of(planes)
        frame = frame.reformat(self._context.width, self._context.height, "yuv420p")
        frame.pts, frame.time_base = round(picture.time_s / TIME_BASE), TIME_BASE
        if self._key_s is None or picture.time_s - self._key_s >= KEY_EVERY_S:
            frame.pict_type, self._key_s = av.video.frame.PictureType.I, picture.time_s
        (packet,) = self._context.encode(frame)
        data = bytes(packet)
        self._sets = parameter_sets("h264", data) or self._sets
        return msgspec.structs.replace(
            picture,
            codec="h264",
            extradata=self._sets,
            size=(self._context.width, self._context.height),
            key=packet.is_keyframe,
            data=data,
        )


def _new(folder: Path, stream: str, base_ns: int) -> tuple[Path, BinaryIO]:
    """Make the empty file; the next millisecond is free where there is one of this name."""
    base_ms = base_ns // 1_000_000
    while True:
        path = folder / segment_name(stream, base_ms)
        with suppress(FileExistsError):
            return path, os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE), "wb")
        base_ms += 1
