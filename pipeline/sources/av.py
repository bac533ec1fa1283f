"""Files and addresses, through PyAV (FFmpeg)."""

import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Final

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from engines.errors import BackendUnavailable, SourceError
from pipeline.settings.redact import redact_in
from pipeline.settings.schema import StreamSettings
from pipeline.sources.base import Decoded, Given, Incomplete, Missed, yuv_bytes
from pipeline.sources.decode import Decoder
from pipeline.sources.deinterlace import Deinterlacer
from pipeline.sources.display import Look, Tags, displayed_width, pixel_aspect, planar, planes_of
from pipeline.sources.hwaccel import check_hardware, hardware
from pipeline.sources.whole import cut_short, lacks_index

# Cameras may send a key frame only every few seconds, and nothing can be decoded before the first.
PICTURE_PATIENCE: Final = 4  # times the timeout, while data arrives but no picture comes of it


class FileSource:
    """A video file."""

    live: ClassVar[bool] = False

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        """Refuse a file that is missing, is not a video or has no video stream, or cannot be decoded as wished."""
        _check_decoder(self._settings)
        with _open(self._settings, self.live) as (_, stream):
            Decoder(stream, self._settings, self.live)

    def read(self, stop: threading.Event) -> Generator[Given, None, None]:
        """Its pictures, from the first to the last."""
        return _read(self._settings, self.live, stop)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of its own size."""
        with _open(self._settings, self.live) as (_, stream):
            width = displayed_width(stream.codec_context.width, pixel_aspect(stream.sample_aspect_ratio))
            return yuv_bytes(width, stream.codec_context.height)


class UrlSource:
    """RTSP, or whatever else FFmpeg reads."""

    live: ClassVar[bool] = True

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings

    def check(self) -> None:
        """Refuse a decoder that is not there; the address itself may come later."""
        _check_decoder(self._settings)

    def read(self, stop: threading.Event) -> Generator[Given, None, None]:
        """Pictures as they come."""
        return _read(self._settings, self.live, stop)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of the largest."""
        return yuv_bytes(*largest)


def _check_decoder(settings: StreamSettings) -> None:
    """Raise SourceError unless this machine has the video decoder that is asked for."""
    if settings.decode == "ffmpeg":
        return
    try:
        check_hardware(settings.decode, settings.decode_gpu)
    except BackendUnavailable as error:
        raise SourceError(f"cannot be decoded: {error}") from error


def _read(settings: StreamSettings, live: bool, stop: threading.Event) -> Generator[Given, None, None]:
    patience_s = PICTURE_PATIENCE * settings.timeout_s
    with _open(settings, live) as (container, stream):
        decoder, viewer = Decoder(stream, settings, live or settings.pace == "camera"), Viewer(stream, settings)
        failure: Incomplete | None = None
        heard_s = time.monotonic()
        try:
            for packet in _packets(container, stream, settings, live):
                if stop.is_set():
                    return
                for given in viewer.shown(decoder.decode(packet)):
                    yield given
                    if isinstance(given, Decoded):
                        heard_s = time.monotonic()  # after the yield: a slow reader is not the source's fault
                if live and time.monotonic() - heard_s > patience_s:
                    raise SourceError(f"data arrives, but for {patience_s:g} s no picture could be decoded from it")
        except Incomplete as error:
            failure = error
        yield from viewer.shown(decoder.flush())  # also where the file cannot be read on
        yield from viewer.rest()
    if failure is not None:
        raise failure
    if not live and (missing := cut_short(Path(settings.source))) is not None:
        raise Incomplete(missing)


class Viewer:
    """Makes pictures of the frames of a stream, as they are displayed."""

    def __init__(self, stream: VideoStream, settings: StreamSettings) -> None:
        self._stream, self._codec = stream, stream.codec_context.name
        mode = settings.deinterlace
        self._deinterlacer = None if mode == "off" else Deinterlacer(stream, mode)
        rate = settings.rate_hz or stream.guessed_rate
        self._step_s = float(1 / rate) if rate else None
        self._bob = mode == "bob"
        self._shows_damaged = settings.damaged == "show"
        self._aspect = pixel_aspect(stream.sample_aspect_ratio)
        self._interlaced = False  # whether any frame was
        self._known: tuple[Tags, bool] | None = None  # of the frame before ...
        self._look, self._notes = Look(), tuple[str, ...]()  # ... and what came of it

    def shown(self, frames: Iterable[av.VideoFrame | Missed]) -> Iterator[Decoded | Missed]:
        """The pictures of some frames, in their order."""
        for frame in frames:
            if isinstance(frame, Missed):
                yield frame
                continue
            self._interlaced = self._interlaced or frame.interlaced_frame
            for whole in (frame,) if self._deinterlacer is None else self._deinterlacer.take(frame):
                yield self._decoded(whole)

    def rest(self) -> Iterator[Decoded]:
        """Those that were held back."""
        if self._deinterlacer is not None:
            yield from map(self._decoded, self._deinterlacer.flush())

    def _decoded(self, frame: av.VideoFrame) -> Decoded:
        shown = planar(frame)
        tags = Tags.of(shown)
        if (tags, self._interlaced) != self._known:
            self._known = tags, self._interlaced
            self._look = Look.of(tags, self._aspect)
            self._notes = self._look.notes(self._interlaced)
            if self._shows_damaged:
                self._notes = (*self._notes, "damaged pictures are shown")
        step_s = self._step_s / 2 if self._step_s and self._bob and self._interlaced else self._step_s
        picture = self._look.picture(planes_of(shown))
        return Decoded(picture, frame.time, self._codec, step_s=step_s, notes=self._notes, damaged=frame.is_corrupt)


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
            hwaccel=None if settings.decode == "ffmpeg" else hardware(settings.decode, settings.decode_gpu),
        )
    except (av.FFmpegError, ValueError) as error:
        _check_decoder(settings)  # opening makes the decoder, too
        # An interrupted handshake may surface as any error at all: the clock knows better.
        if live and time.monotonic() - began_s >= settings.timeout_s:
            raise SourceError(f"no answer within {settings.timeout_s:g} s") from None
        if not live and isinstance(error, av.InvalidDataError) and lacks_index(Path(settings.source)):
            raise SourceError("is not whole: its index (moov), which stands at its end, is missing") from None
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


def _packets(
    container: InputContainer, stream: VideoStream, settings: StreamSettings, live: bool
) -> "Iterator[av.Packet[VideoStream]]":
    try:
        yield from container.demux(stream)
    except av.ExitError:
        raise SourceError(f"no data for {settings.timeout_s:g} s") from None
    except av.FFmpegError as error:
        cause = f"reading failed: {error.strerror}"
        raise SourceError(cause) if live else Incomplete(f"is not whole: {cause}") from None


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
