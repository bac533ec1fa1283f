"""Decoding on a GPU's video decoder, through FFmpeg: NVDEC on NVIDIA's, VA-API on Intel's and AMD's.

FFmpeg opens, reads and parses the source as ever, so that addresses, timeouts, colours and errors are those of every
stream; only the pictures are decoded on the device, and copied down as NV12.
"""

from dataclasses import dataclass
from typing import Final, Literal

import av
from av.codec.hwaccel import HWAccel, hwdevices_available
from av.video.stream import VideoStream

from engines.errors import BackendUnavailable, SourceError, one_line

HardwareDecode = Literal["nvdec", "vaapi"]

FIRST_RENDER_NODE: Final = 128  # of Linux, where GPU 0 is /dev/dri/renderD128


@dataclass(frozen=True, slots=True)
class VideoDevice:
    """A video decoder as FFmpeg names it."""

    title: str
    kind: str  # FFmpeg's type of device
    path: str  # "{}": index of the GPU


DEVICES: Final[dict[HardwareDecode, VideoDevice]] = {
    "nvdec": VideoDevice("NVDEC", "cuda", "{}"),
    "vaapi": VideoDevice("VA-API", "vaapi", "/dev/dri/renderD{}"),
}


def hardware(decode: HardwareDecode, gpu: int) -> HWAccel:
    """Return what ``av.open`` decodes with on the GPU of this index; decoding never falls back to the CPU."""
    device = DEVICES[decode]
    path = device.path.format(gpu + FIRST_RENDER_NODE if decode == "vaapi" else gpu)
    return HWAccel(device.kind, path, allow_software_fallback=False)


def check_hardware(decode: HardwareDecode, gpu: int) -> None:
    """Raise BackendUnavailable unless this FFmpeg can decode H.264 on the GPU of this index."""
    device, built = DEVICES[decode], hwdevices_available()
    if device.kind not in built:
        raise BackendUnavailable(
            f"this FFmpeg was built without {device.title}: it has {', '.join(sorted(built)) or 'no video decoders'}"
        )
    try:
        hardware(decode, gpu).create(av.Codec("h264", "r"))
    except (av.FFmpegError, NotImplementedError) as error:
        raise BackendUnavailable(
            f"{device.title} finds no GPU {gpu} ({one_line(error)}): it, its driver or the driver's video "
            "libraries are missing"
        ) from error


class HardwareDecoder:
    """Decodes one stream of a container that was opened with :func:`hardware`. For one thread."""

    def __init__(self, stream: VideoStream, decode: HardwareDecode, gpu: int) -> None:
        """Take a stream.

        Raises:
            SourceError: FFmpeg does not decode such a stream on such a device.
        """
        self._what = f"{DEVICES[decode].title} on GPU {gpu}"
        if not stream.codec_context.is_hwaccel:
            raise SourceError(f"is {stream.codec_context.name}, which FFmpeg does not decode on {self._what}")
        stream.thread_type = "SLICE"  # the device works beside this thread: frame threads would only hold pictures back

    def decode(self, packet: "av.Packet[VideoStream]") -> list[av.VideoFrame]:
        """Return the frames that a packet completes, in this machine's memory.

        Raises:
            SourceError: the device fails, or does not decode such a stream.
        """
        try:
            return packet.decode()
        except av.InvalidDataError:
            return []  # a broken packet
        except av.FFmpegError as error:
            raise SourceError(f"cannot be decoded by {self._what}: {one_line(error)}") from error
