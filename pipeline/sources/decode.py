"""What FFmpeg decoded -> pictures that are seen right: upright, and with the meaning of their numbers."""

from dataclasses import dataclass
from typing import Final, Self

import av
import numpy as np
from av.video.plane import VideoPlane

from engines.arrays import Plane
from pipeline.frames.picture import Matrix, Picture

FULL_RANGE: Final = 2  # AVCOL_RANGE_JPEG
# AVColorSpace, ITU-T H.273 table 4. What is not tagged is taken for BT.601, as FFmpeg itself does.
MATRICES: Final[dict[int, Matrix]] = {1: "bt709", 9: "bt2020", 10: "bt2020"}
PLANAR: Final = ("yuv420p", "yuvj420p")


@dataclass(frozen=True, slots=True)
class Look:
    """What the pixels of a picture do not tell."""

    quarter_turns: int = 0  # counterclockwise, until it is upright
    full_range: bool = False
    matrix: Matrix = "bt601"

    @classmethod
    def of(cls, frame: av.VideoFrame) -> Self:
        """As FFmpeg found it in the stream."""
        turns, full_range = round(frame.rotation / 90) % 4, frame.color_range == FULL_RANGE
        return cls(turns, full_range, MATRICES.get(frame.colorspace, "bt601"))

    def picture(self, planes: tuple[Plane, ...]) -> Picture:
        """The picture of the planes (y, u, v) of 4:2:0."""
        if self.quarter_turns:
            planes = tuple(np.ascontiguousarray(np.rot90(plane, self.quarter_turns)) for plane in planes)
        height, width = planes[0].shape
        return Picture(planes, width, height, self.full_range, self.matrix)


def decode(packet: "av.Packet[av.VideoStream]") -> list[av.VideoFrame]:
    """The frames that a packet completes, decoded on the CPU."""
    try:
        return packet.decode()
    except av.FFmpegError:
        return []  # a broken packet; the decoder finds its way from the next key frame at the latest


def picture_of(frame: av.VideoFrame) -> Picture:
    """The picture of a frame, its pixels where the decoder put them."""
    if frame.format.name not in PLANAR:
        frame = frame.reformat(format="yuv420p")
    return Look.of(frame).picture(tuple(_view(plane) for plane in frame.planes))


def _view(plane: VideoPlane) -> Plane:
    """The pixels of a plane where the decoder put them.

    The array keeps the frame and so its buffer alive; the decoder takes another buffer for its next picture.
    """
    stride = plane.line_size
    pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, abs(stride))[:, : plane.width]
    if stride < 0:
        return pixels[::-1].copy()
    pixels.flags.writeable = False  # the decoder predicts from it
    return pixels
