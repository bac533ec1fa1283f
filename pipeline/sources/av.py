"""Files and addresses, through PyAV (FFmpeg)."""

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from engines.errors import SourceError
from pipeline.frames.picture import Picture
from pipeline.settings.redact import redact_in
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Decoded, Lost, yuv_bytes
from pipeline.sources.decode import decode, picture_of

# Cameras may send a key frame only every few seconds, and nothing can be decoded before the first.
PICTURE_PATIENCE: Final = 4  # times the timeout, while data arrives but no picture comes of it

Decoder = Callable[["av.Packet[VideoStream]"], Iterable[tuple[Picture, float | None]]]  # with the source's own time


class FileSource:
    """A video file."""

    live: ClassVar[bool] = False

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        """Refuse a file that is missing, is not a video or has no video stream, or cannot be decoded as wished."""
        _check_decoder(self._settings)
        with _open(self._settings, self.live) as (_, stream):
            _decoder(self._settings, stream, self.live)

    def read(self, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
        """Its pictures, from the first to the last."""
        return _read(self._settings, self.live, stop)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of its own size."""
        with _open(self._settings, self.live) as (_, stream):
            return yuv_bytes(stream.codec_context.width, stream.codec_context.height)


class UrlSource:
    """RTSP, or whatever else FFmpeg reads."""

    live: ClassVar[bool] = True

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        """Refuse a decoder that is not there; the address itself may come later."""
        _check_decoder(self._settings)

    def read(self, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
        """Pictures as they come."""
        return _read(self._settings, self.live, stop)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of the largest."""
        return yuv_bytes(*largest)


def _check_decoder(settings: StreamSettings) -> None:
    if settings.decode == "nvdec":
        from pipeline.sources.nvdec import check_nvdec  # only where it is asked for

        check_nvdec(settings.decode_gpu)


def _read(settings: StreamSettings, live: bool, stop: threading.Event) -> Generator[Decoded | Lost, None, None]:
    patience_s = PICTURE_PATIENCE * settings.timeout_s
    with _open(settings, live) as (container, stream):
        decode_packet, codec = _decoder(settings, stream, live), stream.codec_context.name
        heard_s = time.monotonic()
        for packet in _packets(container, stream, settings.timeout_s):
            if stop.is_set():
                return
            for picture, source_s in decode_packet(packet):
                yield Decoded(picture, source_s, codec)
                heard_s = time.monotonic()  # after the yield: a slow reader is not the source's fault
            if live and time.monotonic() - heard_s > patience_s:
                raise SourceError(f"data arrives, but for {patience_s:g} s no picture could be decoded from it")


def _decoder(settings: StreamSettings, stream: VideoStream, live: bool) -> Decoder:
    """What makes pictures of a stream's packets."""
    in_time = live or settings.pace == "camera"
    if settings.decode == "nvdec":
        from pipeline.sources.nvdec import NvdecDecoder  # only where it is asked for

        stream.thread_type = "SLICE"
        return NvdecDecoder(stream, settings.decode_gpu, in_time=in_time).decode
    # Frame threads hold a picture back for each thread: half a second of a camera on 16 cores. A live
    # source need not be decoded faster than it comes.
    stream.thread_type = "SLICE" if in_time else "AUTO"
    return lambda packet: ((picture_of(frame), frame.time) for frame in decode(packet))


@contextmanager
def _open(settings: StreamSettings, live: bool) -> Iterator[tuple[InputContainer, VideoStream]]:
    # Measuring the frame rate would hold back the first second of a live source, to come in one burst.
    options = {"fpsprobesize": "0"} if live else {}
    if settings.source.startswith(("rtsp://", "rtsps://")):
        # Without its other media a camera whose video froze falls silent, which the timeout notices.
        options |= {"rtsp_transport": settings.transport, "allowed_media_types": "video"}
    began_s = time.monotonic()
    try:
        container = av.open(
            # "file:", or FFmpeg takes a colon in the name for a protocol.
            settings.source if live else f"file:{settings.source}",
            options=options,
            timeout=settings.timeout_s if live else None,
            metadata_errors="replace",
        )
    except (av.FFmpegError, ValueError) as error:
        # An interrupted handshake may surface as any error at all: the clock knows better.
        if live and time.monotonic() - began_s >= settings.timeout_s:
            raise SourceError(f"no answer within {settings.timeout_s:g} s") from None
        raise SourceError(_open_cause(error, settings.source)) from None
    try:
        if container.format.name == "tty":  # FFmpeg renders text files as ANSI art
            raise SourceError("is not a video")
        yield container, _video_stream(container)
    finally:
        container.close()


def _video_stream(container: InputContainer) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream) or stream.disposition & Disposition.attached_pic:
        raise SourceError("has no video stream")
    if stream.codec_context is None:
        raise SourceError("has video of a kind that this FFmpeg cannot decode")
    return stream


def _packets(container: InputContainer, stream: VideoStream, timeout_s: float) -> "Iterator[av.Packet[VideoStream]]":
    try:
        yield from container.demux(stream)
    except av.ExitError:
        raise SourceError(f"no data for {timeout_s:g} s") from None
    except av.FFmpegError as error:
        raise SourceError(f"reading failed: {error.strerror}") from None


def _open_cause(error: Exception, source: str) -> str:
    match error:
        case av.FileNotFoundError():
            return "does not exist"
        case av.IsADirectoryError():
            return "is a folder, not a video"
        case av.InvalidDataError():
            return "is not a video"
        case av.HTTPUnauthorizedError() | av.HTTPForbiddenError():
            return "refuses the user name or the password, or wants one"
    # The whole text of an FFmpegError has the address in it, its strerror should not.
    text = (error.strerror if isinstance(error, av.FFmpegError) else None) or str(error)
    return f"cannot be opened: {redact_in(text, source)}"
