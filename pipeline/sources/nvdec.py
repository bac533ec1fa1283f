"""Decoding on an NVIDIA GPU's video decoder: packets that FFmpeg demuxed -> pictures in this machine's memory.

PyNvVideoCodec hands the packets to NVDEC. FFmpeg opens and reads the source as ever, so that addresses, timeouts and
errors are those of every stream, and decodes until its first picture, since only that tells rotation and colours.
"""

import ctypes
import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.stream import VideoStream

from engines.arrays import Plane
from engines.errors import BackendUnavailable, SourceError, one_line
from pipeline.frames.picture import Picture
from pipeline.sources.decode import PLANAR, Look, decode

CODECS: Final = {  # FFmpeg's name -> NVDEC's
    "h264": "H264",
    "hevc": "HEVC",
    "av1": "AV1",
    "vp8": "VP8",
    "vp9": "VP9",
    "mpeg1video": "MPEG1",
    "mpeg2video": "MPEG2",
}
# Containers such as MP4 tell the length of each part of a packet, NVDEC looks for the marks between them.
MARKS: Final = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
NO_TIME: Final = -(1 << 62)
MAX_WAITING: Final = 16  # pictures, for FFmpeg's first: it holds back as many as a stream may reorder

Planes = tuple[Plane, Plane, Plane]
Timed = tuple[Picture, float | None]  # with the source's own time, seconds


def video_decoders(gpu: int) -> int:
    """How many a GPU has.

    Raises:
        BackendUnavailable: the library or its driver is missing, or there is no such GPU.
    """
    nvidia = _library()
    try:
        return int(nvidia.GetDecoderCaps(gpuid=gpu).get("num_decoder_engines", 1))
    except _failures(nvidia) as error:
        raise BackendUnavailable(f"GPU {gpu} cannot be used: {one_line(error)}") from error


def check_nvdec(gpu: int) -> None:
    """Raise SourceError unless a GPU can decode videos here."""
    try:
        video_decoders(gpu)
    except BackendUnavailable as error:
        raise SourceError(f"cannot be decoded by NVDEC: {error}") from error


class NvdecDecoder:
    """Decodes one stream. For one thread."""

    def __init__(self, stream: VideoStream, gpu: int, *, in_time: bool) -> None:
        """Open a decoder on the GPU of this index.

        Args:
            stream: what the packets are from.
            gpu: index among those that CUDA shows to this process.
            in_time: give every picture at once, where the stream reorders none.

        Raises:
            SourceError: the library is missing, or the GPU does not decode such a stream.
        """
        context = stream.codec_context
        codec = context.codec.canonical_name
        if codec not in CODECS:
            raise SourceError(f"is {codec}, which NVDEC is not given: that is {', '.join(CODECS)}")
        if context.pix_fmt not in (*PLANAR, None):
            raise SourceError(f"has pictures in {context.pix_fmt}, and NVDEC is given 8-bit 4:2:0 only")
        try:
            self._nvidia = _library()
        except BackendUnavailable as error:
            raise SourceError(f"cannot be decoded by NVDEC: {error}") from error
        self._gpu = gpu
        self._stream = stream
        self._at_once = in_time and not context.has_b_frames
        self._marks = BitStreamFilterContext(MARKS[codec], stream) if codec in MARKS else None
        latency = self._nvidia.DisplayDecodeLatencyType
        with _told(self._nvidia, gpu):
            self._decoder = self._nvidia.CreateDecoder(
                gpuid=gpu,
                codec=getattr(self._nvidia.cudaVideoCodec, CODECS[codec]),
                usedevicememory=False,
                latency=latency.LOW if self._at_once else latency.NATIVE,
            )
        self._look: Look | None = None
        self._waiting: list[tuple[Planes, float | None]] = []

    def decode(self, packet: "av.Packet[VideoStream]") -> Iterator[Timed]:
        """The pictures that a packet completes, in the order in which they are shown; an empty one: all that are left.

        Raises:
            SourceError: NVDEC fails.
        """
        over = not packet.size  # asked now: the filter leaves every packet empty
        if self._look is None:
            self._look = next((Look.of(frame) for frame in decode(packet)), None)
        for marked in self._marked(packet):
            self._waiting += self._decoded(marked)
        if self._look is None and not over and len(self._waiting) < MAX_WAITING:
            return
        look = self._look = self._look or Look()
        waiting, self._waiting = self._waiting, []
        for planes, time_s in waiting:
            yield look.picture(planes), time_s

    def _marked(self, packet: "av.Packet[VideoStream]") -> "list[av.Packet[Any]]":
        """The packet as NVDEC reads it; at the end of the stream, what the filter held back and an empty one."""
        if self._marks is None:
            return [packet]
        if not packet.size:
            return [*self._marks.filter(None), packet]
        try:
            return list(self._marks.filter(packet))
        except av.FFmpegError:
            return []  # a broken packet

    def _decoded(self, packet: "av.Packet[Any]") -> Iterator[tuple[Planes, float | None]]:
        data = self._nvidia.PacketData()
        if packet.size:
            data.bsl, data.bsl_data = packet.size, packet.buffer_ptr
            data.pts = NO_TIME if packet.pts is None else packet.pts
            if self._at_once:
                data.decode_flag = int(self._nvidia.VideoPacketFlag.ENDOFPICTURE)
        with _told(self._nvidia, self._gpu):
            for frame in self._decoder.Decode(data):
                yield self._planes(frame), self._time_s(frame.getPTS())

    def _planes(self, frame: Any) -> Planes:
        """Copies of a frame's planes: the next packet is decoded into the same memory.

        NV12: luma (H, W), below it chroma with U and V in turn (H / 2, W), rounded up where they are odd.
        """
        if self._decoder.GetPixelFormat() != self._nvidia.Pixel_Format.NV12:
            raise SourceError(f"has pictures in {self._decoder.GetPixelFormat().name} now, and NVDEC gives NV12 only")
        width, height, size = self._decoder.GetWidth(), self._decoder.GetHeight(), frame.framesize()
        columns, rows = (width + 1) // 2, (height + 1) // 2
        pitch = size // (height + rows)
        if pitch < 2 * columns:
            raise SourceError(f"was decoded by NVDEC into {size} bytes, too few for a picture of {width}x{height}")
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(frame.GetPtrToPlane(0)))
        lines = memory[: pitch * (height + rows)].reshape(height + rows, pitch)
        chroma = lines[height:, : 2 * columns].reshape(rows, columns, 2)
        u, v = (np.asarray(plane, np.uint8) for plane in cv2.split(chroma))
        return lines[:height, :width].copy(), u, v

    def _time_s(self, pts: int) -> float | None:
        base = self._stream.time_base
        return None if pts == NO_TIME or base is None else float(pts * base)


def _library() -> Any:
    """PyNvVideoCodec, which publishes no types; BackendUnavailable where it cannot be imported."""
    try:
        return importlib.import_module("PyNvVideoCodec")
    except (ImportError, OSError) as error:
        raise BackendUnavailable(
            f"the package PyNvVideoCodec cannot be imported ({one_line(error)}); install it with: "
            "pip install 'trunkline[nvdec]'"
        ) from error
    except RuntimeError as error:  # it looks for the driver, and follows what is wrong with a page of advice
        cause = str(error).split("\n", 1)[0]
        raise BackendUnavailable(f"NVIDIA's driver for videos is not there ({cause})") from error


def _failures(nvidia: Any) -> tuple[type[Exception], ...]:
    """What the library raises: two classes of its own, and where a library that it needs does not load."""
    return nvidia.PyNvVCException, nvidia.PyNvVCExceptionUnsupported, RuntimeError


@contextmanager
def _told(nvidia: Any, gpu: int) -> Iterator[None]:
    """Turns the library's errors into ours."""
    try:
        yield
    except _failures(nvidia) as error:
        raise SourceError(f"cannot be decoded by NVDEC on GPU {gpu}: {one_line(error)}") from error
