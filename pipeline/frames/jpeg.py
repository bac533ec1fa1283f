"""YUV 4:2:0 planes <-> JPEG, with no way through RGB: a JPEG holds planes, whatever their matrix and range.

FFmpeg's codec rather than OpenCV's, which knows RGB and grey only, and whose memory an attacker's header would choose.
"""

from fractions import Fraction
from typing import Final

import av
import numpy as np
from av.codec.context import Flags
from av.video.codeccontext import VideoCodecContext
from av.video.plane import VideoPlane

from engines.arrays import Plane
from engines.errors import MessageError
from pipeline.frames.picture import Matrix, Picture

Planes = tuple[Plane, Plane, Plane]

# FFmpeg's quantiser scale has whole steps only. One is about 6 points of libjpeg's quality, by the PSNR of the luma
# that either leaves of four clips (1: 95, 2: 91, 3: 85, 4: 78, 6: 64, 8: 48).
QUALITY_STEP: Final = 6
ROW_ALIGNMENT: Final = 64  # FFmpeg counts the pixels of its own buffers, whose rows are longer than the picture's
LAYOUT: Final = "yuvj420p"
MATRICES: Final[dict[Matrix, int]] = {"bt601": 5, "bt709": 1, "bt2020": 9}  # AVColorSpace, ITU-T H.273 table 4
LIMITED, FULL = 1, 2  # AVColorRange


class JpegEncoder:
    """Planes of one size after the other to JPEG.

    Args:
        quality: 1 to 100, about as elsewhere, in steps of 6; beyond 90 there is one step more.
    """

    def __init__(self, quality: int) -> None:
        self._scale = max(1, round((100 - quality) / QUALITY_STEP))
        self._context: VideoCodecContext | None = None

    def encode(self, planes: Planes) -> bytes:
        """One picture: luma (H, W) and the two chroma planes, half as large, odd sizes rounded up; uint8."""
        height, width = planes[0].shape
        if self._context is None or (self._context.height, self._context.width) != (height, width):
            self._context = _encoder(width, height, self._scale)
        (packet,) = self._context.encode(frame_of(planes))
        return bytes(packet)


class JpegDecoder:
    """JPEG of anybody to planes: what is no JPEG of the stated size is refused before it takes memory."""

    def __init__(self) -> None:
        self._context: VideoCodecContext | None = None
        self._size = (0, 0)

    def decode(self, data: bytes | memoryview, width: int, height: int) -> Planes:
        """The planes of one picture, read-only.

        Raises:
            MessageError: it is damaged, has another size or is not 4:2:0.
        """
        if self._context is None or self._size != (width, height):
            self._context, self._size = _decoder(width, height), (width, height)
        try:
            frames = self._context.decode(av.Packet(bytes(data)))
        except av.FFmpegError as error:
            self._context = None  # who knows what state it is in
            raise MessageError(f"its JPEG cannot be decoded: {error.strerror}") from None
        if len(frames) != 1:
            self._context = None
            raise MessageError(f"its JPEG holds {len(frames)} pictures, but must hold 1")
        (frame,) = frames
        if (frame.width, frame.height, frame.format.name) != (width, height, LAYOUT):
            raise MessageError(
                f"its JPEG is a {frame.format.name} picture of {frame.width}x{frame.height}, "
                f"but must be {LAYOUT} of {width}x{height}"
            )
        y, u, v = map(pixels_of, frame.planes)
        for plane in (y, u, v):
            plane.flags.writeable = False
        return y, u, v


def frame_of(planes: Planes, layout: str = LAYOUT) -> av.VideoFrame:
    """Return a frame with copies of the planes, of a JPEG unless ``layout`` is another 4:2:0."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, layout)
    for there, plane in zip(frame.planes, planes, strict=True):
        np.copyto(pixels_of(there), plane)
    return frame


def jpeg_planes(picture: Picture) -> Planes:
    """Return the planes of a picture in the colours that JPEG has (JFIF): BT.601, full range, 4:2:0."""
    if len(picture.planes) == 1:
        frame = av.VideoFrame.from_ndarray(picture.planes[0], "rgb24")
    else:
        y, u, v = picture.planes
        if picture.full_range and picture.matrix == "bt601":
            return y, u, v
        frame = frame_of((y, u, v), "yuvj420p" if picture.full_range else "yuv420p")
        frame.colorspace = MATRICES[picture.matrix]
        frame.color_range = FULL if picture.full_range else LIMITED
    frame = frame.reformat(format=LAYOUT, dst_colorspace=MATRICES["bt601"], dst_color_range=FULL)
    y, u, v = map(pixels_of, frame.planes)
    return y, u, v


def _encoder(width: int, height: int, scale: int) -> VideoCodecContext:
    context = VideoCodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = width, height, LAYOUT
    context.time_base = Fraction(1, 25)  # it wants one and does nothing with it
    context.thread_count = 1  # one more would hold a picture back
    context.flags |= Flags.qscale
    context.qmin = context.qmax = scale
    return context


def _decoder(width: int, height: int) -> VideoCodecContext:
    context = VideoCodecContext.create("mjpeg", "r")
    context.thread_count = 1
    most = (width + ROW_ALIGNMENT) * (height + ROW_ALIGNMENT)
    context.options = {"max_pixels": str(most), "err_detect": "explode"}
    return context


def pixels_of(plane: VideoPlane) -> Plane:
    """Return the pixels (H, W) of a plane of FFmpeg's, without what its rows are padded with; they are not copied."""
    pixels = np.frombuffer(memoryview(plane), np.uint8).reshape(plane.height, plane.line_size)
    return pixels[:, : plane.width]
