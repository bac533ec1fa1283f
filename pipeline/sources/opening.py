"""Opens a source with FFmpeg."""

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import av
from av.container import InputContainer
from av.stream import Discard, Disposition
from av.video.stream import VideoStream

from engines.errors import BackendUnavailable, SourceError
from pipeline.settings.schema import StreamSettings
from pipeline.sources.address import address_for_ffmpeg, is_pipe, local_path, path_of, scheme_of
from pipeline.sources.causes import opening_cause
from pipeline.sources.hwaccel import check_hardware, hardware
from pipeline.sources.pipe import PipeReader
from pipeline.sources.whole import cut_short, is_animated_webp

PLAYLISTS: Final = ("hls", "dash")  # FFmpeg's names of formats that come in segments, whose own length says nothing
# What FFmpeg may open for a source, whatever a playlist, a redirection or the address itself leads to: of a file files,
# of an address the network and no file, of a pipe nothing else; and no protocol within another ("concat:", "subfile:").
FILE_PROTOCOLS: Final = "file,crypto,data"
PIPE_PROTOCOLS: Final = "crypto,data"
NETWORK_PROTOCOLS: Final = (
    "rtp,srtp,udp,udplite,tcp,tls,unix,sctp,dtls,srt,rist,http,https,httpproxy,ftp,sftp,crypto,data,mmsh,mmst,"
    "rtmp,rtmpe,rtmps,rtmpt,rtmpte,rtmpts,ffrtmpcrypt,ffrtmphttp"
)
SEGMENTS: Final = 4  # times the timeout: segments are of up to ten seconds
LOOKED_AT_FLV: Final = "500000"  # microseconds: what is in it comes first, but FFmpeg waits for sound that never comes


def check_decoder(settings: StreamSettings) -> None:
    """Raise SourceError unless this machine has the video decoder that is asked for."""
    if settings.decode == "ffmpeg":
        return
    try:
        check_hardware(settings.decode, settings.decode_gpu)
    except BackendUnavailable as error:
        raise SourceError(f"cannot be decoded: {error}") from error


class Opened(NamedTuple):
    """A source that can be read."""

    container: InputContainer
    stream: VideoStream
    missing: Callable[[], str | None]  # what of its bytes is missing at its end, once that is reached


@contextmanager
def opened(
    settings: StreamSettings,
    live: bool,
    stop: threading.Event | None = None,
    close: Callable[[InputContainer], None] = InputContainer.close,
    form: str | None = None,
) -> Iterator[Opened]:
    """Open a source, and close it in the end.

    Args:
        settings: of the stream.
        live: it comes in its own time: nothing is measured before the first picture.
        stop: ends the reading of a pipe.
        close: closes it.
        form: FFmpeg's name of its format; None: FFmpeg finds out.

    Raises:
        SourceError: it cannot be opened, or has no video; the sentence goes on after the address.
    """
    began_s = time.monotonic()
    path = local_path(settings.source)
    timeout_s = settings.timeout_s if live or path is None else None
    read_s = read_timeout_s(settings) if timeout_s is not None else None
    with ExitStack() as stack:
        pipe: PipeReader | None = None
        try:
            if is_pipe(settings.source):
                pipe = stack.enter_context(PipeReader(path, stop or threading.Event(), timeout_s if live else None))
            container = av.open(
                address_for_ffmpeg(settings) if pipe is None else pipe,
                mode="r",
                format=form,
                options=_options(settings, live),
                timeout=(timeout_s, read_s) if pipe is None else None,
                metadata_errors="replace",
                hwaccel=None if settings.decode == "ffmpeg" else hardware(settings.decode, settings.decode_gpu),
            )
        except (av.FFmpegError, ValueError, OSError) as error:
            check_decoder(settings)  # opening makes the decoder, too
            # An interrupted handshake may surface as any error at all: the clock knows better.
            if timeout_s is not None and time.monotonic() - began_s >= timeout_s:
                raise SourceError(f"no answer within {timeout_s:g} s") from None
            missing = _missing(path, pipe) if isinstance(error, av.InvalidDataError) else None
            raise SourceError(missing or opening_cause(error, settings)) from None
        stack.callback(close, container)
        if path is not None and is_animated_webp(path):
            raise SourceError("is an animated WebP, which this FFmpeg cannot decode: convert it to GIF, PNG or MP4")
        if container.format.name == "tty":  # FFmpeg renders text files as ANSI art
            raise SourceError("is not a video")
        yield Opened(container, _video_stream(container), lambda: _missing(path, pipe))


def read_timeout_s(settings: StreamSettings) -> float:
    """How long a source may give nothing; of a playlist no segment may be due for longer than ``timeout_s``."""
    in_segments = path_of(settings.source).endswith((".m3u8", ".mpd"))
    return SEGMENTS * settings.timeout_s if in_segments else settings.timeout_s


def _missing(path: Path | None, pipe: PipeReader | None) -> str | None:
    if pipe is not None:
        return pipe.missing
    return None if path is None else cut_short(path)


def _options(settings: StreamSettings, live: bool) -> dict[str, str]:
    # Measuring the frame rate would hold back the first second of a live source, to come in one burst.
    options = {"fpsprobesize": "0"} if live else {}
    if live and (settings.source.lower().startswith("rtmp") or path_of(settings.source).endswith(".flv")):
        options["analyzeduration"] = LOOKED_AT_FLV
    if is_pipe(settings.source):
        options["protocol_whitelist"] = PIPE_PROTOCOLS
    else:
        local = local_path(settings.source) is not None
        options["protocol_whitelist"] = FILE_PROTOCOLS if local else NETWORK_PROTOCOLS
    if settings.source.lower().startswith(("rtsp://", "rtsps://")):
        # Without its other media a camera whose video froze falls silent, which the timeout notices.
        options |= {"rtsp_transport": settings.transport, "allowed_media_types": "video"}
    if not live and scheme_of(settings.source) in ("http", "https"):
        # FFmpeg 8 asks for a connection to be closed, and asks again on it unless the server says that it closes.
        options["multiple_requests"] = "1"
    if settings.verify_tls:
        trusted: str | None = ssl.get_default_verify_paths().cafile  # None where there is no such file
        options |= {"tls_verify": "1"} | ({} if trusted is None else {"ca_file": trusted})
    return options


def _video_stream(container: InputContainer) -> VideoStream:
    """The default video, else the largest, as ffmpeg chooses; of all else nothing is read, or fetched by HLS."""
    videos = [each for each in container.streams.video if not each.disposition & Disposition.attached_pic]
    if not videos:
        raise SourceError("has no video stream")
    chosen = max(videos, key=_preference)
    if chosen.codec_context is None:
        raise SourceError("has video of a kind that this FFmpeg cannot decode")
    for other in container.streams:
        if other is not chosen:
            other.discard = Discard.all
    return chosen


def _preference(video: VideoStream) -> tuple[bool, bool, int]:
    context = video.codec_context
    if context is None:
        return False, False, 0
    return True, bool(video.disposition & Disposition.default), context.width * context.height
