"""The capture stage: the frames of a stream, from whichever source takes its address."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, nullcontext

import msgspec

from engines.errors import ConfigError, SourceError
from pipeline.frames.types import Frame, Health, Mode
from pipeline.settings.redact import redact
from pipeline.settings.schema import StreamSettings
from pipeline.sources.address import is_pipe
from pipeline.sources.av import VideoSource
from pipeline.sources.base import Decoded, Missed, open_source
from pipeline.sources.condition import Condition
from pipeline.sources.file import read_file
from pipeline.sources.kind import is_live
from pipeline.sources.live import read_live
from pipeline.sources.packets import PacketTap, PacketTarget
from pipeline.sources.undecoded import UndecodedPackets

Capture = Callable[..., Iterator[Frame]]  # what :func:`capture` is, and what may stand in its place


def capture(
    settings: StreamSettings,
    *,
    stop: threading.Event,
    health: Callable[[Health], None],
    first_seq: int = 0,
    room_bytes: int | None = None,
    lost: Callable[[int, str], None] | None = None,
    packets: PacketTarget | None = None,
) -> Generator[Frame, None, None]:
    """Frames of one stream until it ends (a file) or ``stop`` is set; a read that hangs ends with its timeout.

    ``seq`` counts from ``first_seq`` on, over reconnects and loops, and a file goes on with that frame; ``time_s``
    always rises; the clocks say when the frame was decoded, or when it was due if it is a file's that is paced as a
    camera's. ``health`` hears ``up`` with the size and the codec, ``down`` and ``ended`` with the cause, each once per
    change; a stream that ``stop`` ends says nothing more. Nothing that a source does is raised; a picture larger than
    ``room_bytes`` is a loss like others.

    Of frames that another host captured, ``captured_ns`` and the steps of ``time_s`` are that host's. ``lost`` hears
    how many pictures are not shown before the next one is, and why: ``lost`` on their way from another host,
    ``undecodable``, ``damaged``. ``seq`` counts those too; without ``lost``, it does not.

    ``packets`` of H.264, HEVC and AV1 go there as they came, of other sources pictures; None: nobody wants them.
    """
    condition = Condition(settings.name, health)
    if first_seq and is_pipe(settings.source) and not is_live(settings):
        return condition.ended("is a pipe, which cannot be read again after a crash", "part")
    seen = seen_settings(settings)
    source = open_source(seen)
    if source.live:
        pictures = read_live(source, seen, stop, condition, room_bytes)
    else:
        pictures = read_file(source, seen, stop, condition, room_bytes, first_seq)
    with closing(pictures), _packets(settings, packets) as way:
        tap = way if isinstance(way, PacketTap) else None
        if isinstance(source, VideoSource):
            source.tap = tap
        seq = first_seq
        for given in pictures:
            if isinstance(given, Missed):
                if lost is not None:
                    lost(given.count, given.cause)
                    seq += given.count
                continue
            picture, time_s, due_s, origin, decoded = given
            captured_ns, clock_ns = time.time_ns(), time.monotonic_ns()
            if due_s is not None:
                late_ns = clock_ns - round(due_s * 1e9)
                captured_ns, clock_ns = captured_ns - late_ns, clock_ns - late_ns
            if origin is not None:
                captured_ns = origin.captured_ns
                if lost is not None and origin.missing:
                    lost(origin.missing, "lost")
                    seq += origin.missing
            if tap is not None:
                tap.shown(decoded, picture, captured_ns, time_s)
            frame = Frame(settings.name, seq, captured_ns, clock_ns, time_s, picture)
            if isinstance(way, UndecodedPackets):
                way.seen(frame)
            yield frame
            seq += 1


def _packets(
    settings: StreamSettings, target: PacketTarget | None
) -> AbstractContextManager[PacketTap | UndecodedPackets | None]:
    if target is None:
        return nullcontext()
    return PacketTap(settings.name, target) if settings.detect_source is None else UndecodedPackets(settings, target)


def seen_settings(settings: StreamSettings) -> StreamSettings:
    """Return a stream's settings with the source that its frames come from."""
    if settings.detect_source is None:
        return settings
    return msgspec.structs.replace(settings, source=settings.detect_source, detect_source=None)


def check_source(settings: StreamSettings) -> None:
    """Refuse a file that cannot be played; live sources may come later and are not looked at.

    Raises:
        SourceError: the file is missing, is not a video or has no video stream; or it cannot be decoded as wished.
        ConfigError: a port that other hosts send frames to is none, or has no keys; or the source has no packets.
    """
    if settings.detect_source is not None:
        _check_beside(settings)
        settings = seen_settings(settings)
    source = open_source(settings)
    if settings.decode != "ffmpeg" and not isinstance(source, VideoSource):
        raise ConfigError(
            f"stream {settings.name!r}: decode is {settings.decode!r}, but must be 'ffmpeg' for "
            f"{redact(settings.source)!r}, which gives pictures, not packets"
        )
    try:
        source.check()
    except SourceError as error:
        raise SourceError(f"stream {settings.name!r}: source {redact(settings.source)!r} {error}") from None


def _check_beside(settings: StreamSettings) -> None:
    """Refuse a source that has no packets, or that does not go with the one that frames come from."""
    beside, what = msgspec.structs.replace(settings, detect_source=None), f"stream {settings.name!r}"
    if not isinstance(open_source(beside), VideoSource):
        raise ConfigError(
            f"{what}: source is {redact(settings.source)!r}, which gives pictures, not packets: with detect_source it "
            "must be an address or a file that FFmpeg reads"
        )
    live, seen_live = is_live(beside), is_live(seen_settings(settings))
    if live != seen_live:
        raise ConfigError(
            f"{what}: detect_source is {'live' if seen_live else 'a file'}, but must be {'live' if live else 'a file'} "
            "as its source is"
        )
    if settings.loop:
        raise ConfigError(f"{what}: loop is true, but must be false with detect_source")
    check_source(beside)


def picture_bytes(settings: StreamSettings, largest: tuple[int, int]) -> int:
    """The room that a picture of a stream takes: of a file's own size, of a live one the ``largest`` (width, height).

    Raises:
        SourceError: a file that cannot be played.
    """
    return open_source(seen_settings(settings)).picture_bytes(largest)


def picture_size(settings: StreamSettings) -> tuple[int, int] | None:
    """Width and height of the first picture of a file, as displayed; None of a live source, a pipe, or a file without.

    Raises:
        SourceError: a file that cannot be played.
    """
    if is_live(settings) or is_pipe(settings.source):
        return None
    with closing(open_source(settings).read(threading.Event())) as given:
        pictures = (each.picture for each in given if isinstance(each, Decoded))
        first = next(pictures, None)
    return None if first is None else (first.width, first.height)


def waits_for_nobody(settings: StreamSettings) -> bool:
    """Whether a stream's frames come when they come and the newest wins: a live source, or a file paced as one."""
    return is_live(settings) or settings.pace == "camera"


def mode(settings: StreamSettings) -> Mode:
    """What becomes of a stream's frames when they come faster than they go."""
    if waits_for_nobody(settings):
        return "freshest"
    return "bulk" if settings.pace == "fast" else "every_frame"
