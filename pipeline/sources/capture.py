"""Sources -> frames: files, URLs and RTSP through PyAV, cameras through OpenCV.

A file is read once (or in a loop) and ends. Everything else is live: any end of it is a loss, and it is opened
again for as long as the run lasts.
"""

import os
import random
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple, Protocol

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from engines.errors import BackendUnavailable, ConfigError, SourceError
from pipeline.frames.picture import Picture
from pipeline.frames.types import Frame, Health, Mode
from pipeline.settings.redact import redact, redact_in
from pipeline.settings.schema import StreamSettings
from pipeline.sources.decode import decode, picture_of
from pipeline.sources.hwaccel import HardwareDecoder, check_hardware, hardware
from pipeline.sources.network import Lost, check_receiving, check_secret, is_remote, receive
from pipeline.wire.remote import Origin

# Cameras may send a key frame only every few seconds, and nothing can be decoded before the first.
PICTURE_PATIENCE: Final = 4  # times the timeout, while data arrives but no picture comes of it
DEFAULT_PERIOD_S: Final = 1 / 25  # between two passes of a looped file, and where a file says no times
OUT_OF_STEP_S: Final = 1.0  # within which files paced as cameras begin: cameras keep no step with each other


class Timed(NamedTuple):
    """A picture and its stream time."""

    picture: Picture
    time_s: float
    due_s: float | None = None  # time.monotonic() when it was due; None: when it came
    origin: Origin | None = None  # where another host captured it


Pictures = Generator[Timed, None, None]
Decoder = Callable[["av.Packet[VideoStream]"], Iterable[tuple[Picture, float | None]]]  # with the source's own time


class Capture(Protocol):
    """What :func:`capture` is, and what may stand in its place."""

    def __call__(
        self,
        settings: StreamSettings,
        *,
        stop: threading.Event,
        health: Callable[[Health], None],
        first_seq: int = 0,
        room_bytes: int | None = None,
        lost: Callable[[int], None] | None = None,
    ) -> Iterator[Frame]: ...


def capture(
    settings: StreamSettings,
    *,
    stop: threading.Event,
    health: Callable[[Health], None],
    first_seq: int = 0,
    room_bytes: int | None = None,
    lost: Callable[[int], None] | None = None,
) -> Generator[Frame, None, None]:
    """Frames of one stream until it ends (a file) or ``stop`` is set; a read that hangs ends with its timeout.

    ``seq`` counts from ``first_seq`` on, over reconnects and loops, and a file goes on with that frame; ``time_s``
    always rises; the clocks say when the frame was decoded, or when it was due if it is a file's that is paced as a
    camera's. ``health`` hears ``up`` with the size and the codec, ``down`` and ``ended`` with the cause, each once per
    change; a stream that ``stop`` ends says nothing more. Nothing that a source does is raised; a picture larger than
    ``room_bytes`` is a loss like others.

    Of frames that another host captured, ``captured_ns`` and the steps of ``time_s`` are that host's. ``lost`` hears
    how many of them did not arrive before the next that did, and ``seq`` counts those too; without it, it does not.
    """
    condition = Condition(settings.name, health)
    if is_live(settings.source):
        source = _live(settings, stop, condition, room_bytes)
    else:
        source = _file(settings, stop, condition, room_bytes, first_seq)
    with closing(source):
        seq = first_seq
        for picture, time_s, due_s, origin in source:
            captured_ns, clock_ns = time.time_ns(), time.monotonic_ns()
            if due_s is not None:
                late_ns = clock_ns - round(due_s * 1e9)
                captured_ns, clock_ns = captured_ns - late_ns, clock_ns - late_ns
            if origin is not None:
                captured_ns = origin.captured_ns
                if lost is not None and origin.missing:
                    lost(origin.missing)
                    seq += origin.missing
            yield Frame(settings.name, seq, captured_ns, clock_ns, time_s, picture)
            seq += 1


def check_source(settings: StreamSettings) -> None:
    """Refuse a file that cannot be played; live sources may come later and are not looked at.

    Raises:
        SourceError: the file is missing, is not a video or has no video stream; or it cannot be decoded as wished.
        ConfigError: a port that other hosts send frames to is none, or has no keys; or the source has no packets.
    """
    if is_remote(settings.source):
        check_receiving(settings)
        check_secret(settings)
    if settings.decode != "ffmpeg" and (is_remote(settings.source) or _is_camera(settings.source)):
        raise ConfigError(
            f"stream {settings.name!r}: decode is {settings.decode!r}, but must be 'ffmpeg' for "
            f"{redact(settings.source)!r}, which gives pictures, not packets"
        )
    try:
        _check_decode(settings)
        if is_live(settings.source):
            return
        with _open(settings) as (_, stream):
            _decoder(settings, stream)
    except SourceError as error:
        raise SourceError(f"stream {settings.name!r}: source {redact(settings.source)!r} {error}") from None


def picture_bytes(settings: StreamSettings, largest: tuple[int, int]) -> int:
    """The room that a picture of a stream takes: of a file's own size, of a live one the ``largest`` (width, height).

    Raises:
        SourceError: a file that cannot be played.
    """
    if is_live(settings.source):
        width, height = largest
        if _is_camera(settings.source):
            return 3 * width * height  # OpenCV gives RGB
    else:
        with _open(settings) as (_, stream):
            width, height = stream.codec_context.width, stream.codec_context.height
    return width * height + 2 * ((width + 1) // 2 * ((height + 1) // 2))


def _check_room(picture: Picture, room_bytes: int | None) -> None:
    if room_bytes is not None and picture.nbytes > room_bytes:
        raise SourceError(
            f"a picture of {picture.width}x{picture.height} takes {picture.nbytes} bytes, more than the {room_bytes} "
            "that there is room for: set zmq.live_picture to its size"
        )


def is_live(source: str) -> bool:
    """Whether a source is a camera or an address rather than a file."""
    return "://" in source or _is_camera(source)


def waits_for_nobody(settings: StreamSettings) -> bool:
    """Whether a stream's frames come when they come and the newest wins: a live source, or a file paced as one."""
    return is_live(settings.source) or settings.pace == "camera"


def mode(settings: StreamSettings) -> Mode:
    """What becomes of a stream's frames when they come faster than they go."""
    if waits_for_nobody(settings):
        return "freshest"
    return "bulk" if settings.pace == "fast" else "every_frame"


class Backoff:
    """How long to wait before the next attempt: doubled each time up to a limit, jittered over its upper half.

    The jitter keeps many streams of one lost server from coming back in step.
    """

    def __init__(self, min_s: float, max_s: float, rng: random.Random) -> None:
        self._min_s = min_s
        self._max_s = max(min_s, max_s)
        self._rng = rng
        self._limit_s = min_s

    def next(self) -> float:
        """Seconds to wait now."""
        limit_s = self._limit_s
        self._limit_s = min(2 * limit_s, self._max_s)
        return self._rng.uniform(limit_s / 2, limit_s)

    def reset(self) -> None:
        """An attempt succeeded: begin again with the shortest wait."""
        self._limit_s = self._min_s


class Timeline:
    """Times of a source -> stream time: from 0, strictly rising, going on when the source begins again."""

    def __init__(self, period_s: float = DEFAULT_PERIOD_S) -> None:
        self._period_s = period_s  # where the source's times do not help
        self._last_s: float | None = None
        self._offset_s: float | None = None

    def at(self, source_s: float | None) -> float:
        """Stream time of the next frame, whose own time is ``source_s`` (None: the source does not say)."""
        due_s = 0.0 if self._last_s is None else self._last_s + self._period_s
        if source_s is None:
            time_s = due_s
        else:
            if self._offset_s is None:
                self._offset_s = due_s - source_s
            time_s = source_s + self._offset_s
        if self._last_s is not None and time_s <= self._last_s:
            time_s = due_s
        self._last_s = time_s
        return time_s

    def restart(self) -> None:
        """The source begins again: its next time follows the last frame by one period."""
        self._offset_s = None

    def skip(self, passes: int) -> None:
        """As many more passes went by as long as all so far, each followed by one period."""
        if self._last_s is not None:
            self._last_s += passes * (self._last_s + self._period_s)


class Condition:
    """Turns what happens to a stream into health reports, one per change."""

    def __init__(self, stream: str, health: Callable[[Health], None]) -> None:
        self._stream = stream
        self._health = health
        self._size: tuple[int, int] | None = None  # of the pictures while the stream is up
        self._down_cause: str | None = None

    def picture(self, size: tuple[int, int], codec: str) -> None:
        """A picture of ``size`` (width, height) came."""
        if size == self._size:
            return
        if self._size is not None:
            self._report("down", f"the picture size changed from {_by(self._size)} to {_by(size)}")
        self._size, self._down_cause = size, None
        self._report("up", f"{_by(size)} {codec}")

    def lost(self, cause: str) -> None:
        """The stream gives no pictures; while that lasts, only a new cause is news."""
        if self._size is not None or cause != self._down_cause:
            self._size, self._down_cause = None, cause
            self._report("down", cause)

    def ended(self, cause: str) -> None:
        """The stream will give no more pictures."""
        self._report("ended", cause)

    def _report(self, state: Literal["up", "down", "ended"], cause: str) -> None:
        self._health(Health(self._stream, state, cause, time.time_ns()))


@dataclass(frozen=True, slots=True)
class _Decoded:
    picture: Picture
    source_s: float | None  # the source's own time of it
    codec: str
    origin: Origin | None = None  # where another host captured it

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.width, self.picture.height


def _live(settings: StreamSettings, stop: threading.Event, condition: Condition, room_bytes: int | None) -> Pictures:
    backoff = Backoff(settings.reconnect_min_s, settings.reconnect_max_s, random.Random())
    timeline = Timeline(period_s=1e-6)  # only to rise where the clock is too coarse to
    read = _reader(settings.source)
    while not stop.is_set():
        cause = "the source ended"
        try:
            with closing(read(settings, stop)) as pictures:
                for decoded in pictures:
                    if isinstance(decoded, Lost):
                        condition.lost(decoded.cause)
                        continue
                    _check_room(decoded.picture, room_bytes)
                    backoff.reset()
                    condition.picture(decoded.size, decoded.codec)
                    origin = decoded.origin
                    time_s = timeline.at(time.monotonic() if origin is None else origin.time_s)
                    yield Timed(decoded.picture, time_s, origin=origin)
        except SourceError as error:
            cause = str(error)
        if not stop.is_set():
            condition.lost(cause)
            stop.wait(backoff.next())


def _reader(source: str) -> Callable[[StreamSettings, threading.Event], Generator[_Decoded | Lost, None, None]]:
    if is_remote(source):
        return _read_remote
    return _read_camera if _is_camera(source) else _read_av


def _file(
    settings: StreamSettings,
    stop: threading.Event,
    condition: Condition,
    room_bytes: int | None,
    before: int,
) -> Pictures:
    """What a file gives after the ``before`` frames of an earlier capture, which are decoded again and passed over."""
    timeline = Timeline()
    began_s: float | None = None
    total = 0
    while True:
        earlier = total
        try:
            with closing(_read_av(settings, stop)) as pictures:
                for decoded in pictures:
                    time_s = timeline.at(decoded.source_s)
                    total += 1
                    if total <= before:
                        continue
                    _check_room(decoded.picture, room_bytes)
                    began_s = _beginning_s(settings) - time_s if began_s is None else began_s
                    due_s = began_s + time_s
                    if settings.pace != "fast" and stop.wait(max(0.0, due_s - time.monotonic())):
                        return
                    condition.picture(decoded.size, decoded.codec)
                    # A camera would have given it when it was due: what the decoder is late by is latency.
                    yield Timed(decoded.picture, time_s, due_s if settings.pace == "camera" else None)
        except SourceError as error:
            return condition.ended(str(error))
        if stop.is_set():
            return
        if total == earlier or not settings.loop:
            return condition.ended(f"end of the file after {total} frames")
        timeline.restart()
        if not earlier and total < before:  # whole passes need not be decoded to be passed over
            passes = before // total - 1
            timeline.skip(passes)
            total += passes * total


def _beginning_s(settings: StreamSettings) -> float:
    """time.monotonic() at which a file whose first picture is there begins."""
    delay_s = random.Random(settings.name).uniform(0.0, OUT_OF_STEP_S) if settings.pace == "camera" else 0.0
    return time.monotonic() + delay_s


def _read_av(settings: StreamSettings, stop: threading.Event) -> Generator[_Decoded, None, None]:
    """Pictures of a file or an address; returns at its end.

    Raises:
        SourceError: it cannot be opened or read, or stalls.
    """
    live = is_live(settings.source)
    patience_s = PICTURE_PATIENCE * settings.timeout_s
    with _open(settings) as (container, stream):
        decode_packet, codec = _decoder(settings, stream), stream.codec_context.name
        heard_s = time.monotonic()
        for packet in _packets(container, stream, settings.timeout_s):
            if stop.is_set():
                return
            for picture, source_s in decode_packet(packet):
                yield _Decoded(picture, source_s, codec)
                heard_s = time.monotonic()  # after the yield: a slow reader is not the source's fault
            if live and time.monotonic() - heard_s > patience_s:
                raise SourceError(f"data arrives, but for {patience_s:g} s no picture could be decoded from it")


def _decoder(settings: StreamSettings, stream: VideoStream) -> Decoder:
    """What makes pictures of a stream's packets."""
    if settings.decode != "ffmpeg":
        frames_of = HardwareDecoder(stream, settings.decode, settings.decode_gpu).decode
    else:
        # Frame threads hold a picture back for each thread: half a second of a camera on 16 cores. A live
        # source need not be decoded faster than it comes.
        stream.thread_type = "SLICE" if waits_for_nobody(settings) else "AUTO"
        frames_of = decode
    return lambda packet: ((picture_of(frame), frame.time) for frame in frames_of(packet))


def _check_decode(settings: StreamSettings) -> None:
    """Raise SourceError unless this machine has the video decoder that is asked for."""
    if settings.decode == "ffmpeg":
        return
    try:
        check_hardware(settings.decode, settings.decode_gpu)
    except BackendUnavailable as error:
        raise SourceError(f"cannot be decoded: {error}") from error


@contextmanager
def _open(settings: StreamSettings) -> Iterator[tuple[InputContainer, VideoStream]]:
    live = is_live(settings.source)
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
        _check_decode(settings)  # opening makes the decoder, too
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


def _is_camera(source: str) -> bool:
    return source.isdecimal() or source.startswith("/dev/video")


def _read_camera(settings: StreamSettings, stop: threading.Event) -> Generator[_Decoded, None, None]:
    device = f"/dev/video{settings.source}" if settings.source.isdecimal() else settings.source
    # OpenCV writes to stderr about each camera it cannot find.
    if sys.platform == "linux" and not Path(device).exists():
        raise SourceError(f"there is no camera {device}")
    if sys.platform == "linux" and not os.access(device, os.R_OK | os.W_OK):
        raise SourceError(f"no permission to use the camera {device}")
    camera = cv2.VideoCapture(int(settings.source) if settings.source.isdecimal() else settings.source)
    try:
        if not camera.isOpened():
            raise SourceError(f"the camera {device} cannot be opened; another program may be using it")
        while not stop.is_set():
            given, pixels = camera.read()
            if not given:
                raise SourceError("the camera gives no pictures any more")
            rgb = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            yield _Decoded(Picture.from_rgb(rgb), None, "camera")
    finally:
        camera.release()


def _read_remote(settings: StreamSettings, stop: threading.Event) -> Generator[_Decoded | Lost, None, None]:
    with closing(receive(settings, stop)) as arrivals:
        for arrived in arrivals:
            if isinstance(arrived, Lost):
                yield arrived
            else:
                yield _Decoded(arrived.picture, None, f"{arrived.encoding} from another host", arrived.origin)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
