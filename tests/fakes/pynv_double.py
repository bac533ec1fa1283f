"""PyNvVideoCodec acted out: the packets that it is given go through FFmpeg's decoder on the CPU, and come as NV12.

As the real one in host memory it decodes every picture into the same memory, so that whoever keeps a picture must copy
it; it wants H.264 and HEVC with marks between their parts; and it holds pictures back unless it is told not to.
Only names that the real one has are in :func:`module`; a test compares them.
"""

import ctypes
import enum
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import av
import numpy as np
import pytest

HELD_BACK = 4  # packets for which a decoder of NATIVE latency gives nothing
MARKS = (b"\0\0\0\1", b"\0\0\1")


class cudaVideoCodec(enum.IntEnum):
    MPEG1 = 0
    MPEG2 = 1
    H264 = 4
    HEVC = 8
    VP8 = 9
    VP9 = 10
    AV1 = 11


class Pixel_Format(enum.IntEnum):
    NV12 = 3
    P016 = 5


class DisplayDecodeLatencyType(enum.IntEnum):
    NATIVE = 0
    LOW = 1


class VideoPacketFlag(enum.IntEnum):
    ENDOFPICTURE = 8


class PyNvVCException(Exception):
    pass


class PyNvVCExceptionUnsupported(Exception):
    pass


class PacketData:
    """A compressed picture; nothing in it is the end of the stream."""

    def __init__(self) -> None:
        self.bsl = self.bsl_data = self.pts = self.decode_flag = 0


NAMES = {cudaVideoCodec.H264: "h264", cudaVideoCodec.HEVC: "hevc", cudaVideoCodec.MPEG2: "mpeg2video"}


class Driver:
    """What a machine's driver and GPUs do."""

    def __init__(self, gpus: int = 1) -> None:
        self.gpus = gpus
        self.unsupported = False  # such a stream
        self.fails_at: int | None = None  # packet
        self.format = Pixel_Format.NV12
        self.pad = 0  # bytes after each line
        self.made: list[dict[str, Any]] = []  # decoders, as they were asked for


def module(driver: Driver) -> types.ModuleType:
    """``PyNvVideoCodec`` for a machine."""

    class DecodedFrame:
        def __init__(self, memory: Any, pts: int) -> None:
            self._memory, self._pts = memory, pts

        def GetPtrToPlane(self, arg0: int) -> int:
            assert arg0 == 0
            return ctypes.addressof(self._memory)

        def framesize(self) -> int:
            return len(self._memory)

        def getPTS(self) -> int:
            return self._pts

    class PyNvDecoder:
        def __init__(self, codec: cudaVideoCodec, latency: DisplayDecodeLatencyType) -> None:
            self._name, self._latency = NAMES[codec], latency
            self._codec = av.CodecContext.create(NAMES[codec], "r")
            self._packets = 0
            self._held: list[av.VideoFrame] = []
            self._memory: Any = None
            self._size = (0, 0)

        def Decode(self, arg0: PacketData) -> list[DecodedFrame]:
            if driver.unsupported:
                raise PyNvVCExceptionUnsupported("NvDecoder : Codec not supported on this GPU\nat line 1")
            if self._packets == driver.fails_at:
                raise PyNvVCException("cuvidDecodePicture returned error 700")
            self._packets += 1
            if not arg0.bsl:
                frames, self._held = [*self._held, *self._codec.decode(None)], []
                return self._given(frames)
            data = ctypes.string_at(arg0.bsl_data, arg0.bsl)
            assert self._name not in ("h264", "hevc") or data.startswith(MARKS), "its parts have no marks"
            packet = av.Packet(data)
            packet.pts = arg0.pts
            try:
                self._held += self._codec.decode(packet)
            except av.InvalidDataError:
                return []
            if self._latency == DisplayDecodeLatencyType.LOW:
                assert arg0.decode_flag == VideoPacketFlag.ENDOFPICTURE, "it does not know that the picture is whole"
            elif self._packets <= HELD_BACK:
                return []
            frames, self._held = self._held, []
            return self._given(frames)

        def _given(self, frames: list[av.VideoFrame]) -> list[DecodedFrame]:
            # The real one has memory for as many pictures as it gives at once, and uses it again for the next.
            found = []
            for place, frame in enumerate(frames):
                found.append(DecodedFrame(self._written(frame, place), frame.pts or 0))
            return found

        def _written(self, frame: av.VideoFrame, place: int) -> Any:
            self._size = frame.width, frame.height
            pixels = frame.reformat(format="nv12").to_ndarray()  # (H * 3 / 2, W)
            padded = np.pad(pixels, ((0, 0), (0, driver.pad)))
            if self._memory is None or place:
                memory = (ctypes.c_uint8 * padded.size)()
                self._memory = self._memory or memory
            else:
                memory = self._memory
            ctypes.memmove(memory, padded.tobytes(), padded.size)
            return memory

        def GetPixelFormat(self) -> Pixel_Format:
            return driver.format

        def GetWidth(self) -> int:
            return self._size[0]

        def GetHeight(self) -> int:
            return self._size[1]

    def check(gpuid: int) -> None:
        if not 0 <= gpuid < driver.gpus:
            raise PyNvVCException(f"GPU ordinal out of range. Should be within [0, {driver.gpus - 1}]")

    def CreateDecoder(
        gpuid: int = 0,
        codec: cudaVideoCodec = cudaVideoCodec.H264,
        usedevicememory: bool = False,
        latency: DisplayDecodeLatencyType = DisplayDecodeLatencyType.NATIVE,
    ) -> PyNvDecoder:
        check(gpuid)
        assert not usedevicememory
        driver.made.append({"gpu": gpuid, "codec": codec.name, "latency": latency.name})
        return PyNvDecoder(codec, latency)

    def GetDecoderCaps(gpuid: int = 0) -> dict[str, int]:
        check(gpuid)
        return {"num_decoder_engines": 3}

    double = types.ModuleType("PyNvVideoCodec")
    public = (
        cudaVideoCodec, Pixel_Format, DisplayDecodeLatencyType, VideoPacketFlag, PyNvVCException,
        PyNvVCExceptionUnsupported, PacketData, DecodedFrame, PyNvDecoder, CreateDecoder, GetDecoderCaps,
    )  # fmt: skip
    for each in public:
        setattr(double, each.__name__, each)
    return double


@contextmanager
def installed(driver: Driver) -> Iterator[Driver]:
    """The double in the place of the library."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, "PyNvVideoCodec", module(driver))
        yield driver
