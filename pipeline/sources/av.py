"""Files and addresses, through PyAV (FFmpeg)."""

import re
import threading
import time
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Final

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from engines.errors import ConfigError, SourceError
from pipeline.settings.redact import redact
from pipeline.settings.schema import StreamSettings
from pipeline.sources.address import is_pictures, is_pipe, local_path
from pipeline.sources.ahead import ReadAhead
from pipeline.sources.base import Decoded, Given, Incomplete, Missed, yuv_bytes
from pipeline.sources.causes import check_address
from pipeline.sources.decode import Decoder, PacketMark
from pipeline.sources.display import displayed_width, pixel_aspect
from pipeline.sources.kind import is_live
from pipeline.sources.opening import PLAYLISTS, check_decoder, opened, read_timeout_s
from pipeline.sources.packets import PacketTap
from pipeline.sources.pictures import RATE_HZ, pictures_of
from pipeline.sources.repeats import Repeats
from pipeline.sources.viewer import Viewer
from pipeline.sources.whole import cut_short

# Cameras may send a key frame only every few seconds, and nothing can be decoded before the first.
PICTURE_PATIENCE: Final = 4  # times the timeout, while data arrives but no picture comes of it
# Of the length that a file states, beyond which it is not whole: durations are rounded, and of a last picture a guess.
MISSING_S: Final = 0.25
MISSING: Final = 0.05
MISSING_OF_EXACT: Final = 0.005  # of playlists that state the lengths of segments exactly
MISSING_STEPS: Final = 2  # of packets: FLV counts the delay of its decoder in
DURATION_TAG: Final = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class _OddParts(Exception):
    """FFmpeg refuses the headers between the JPEGs of a camera ("image/jpg"), which can be told apart without."""


class VideoSource:
    """Whatever FFmpeg reads: a file, a pipe, pictures or an address."""

    live: bool = True  # of an address that nothing is known of

    def __init__(self, settings: StreamSettings) -> None:
        self._settings = settings
        self.live = is_live(settings)
        self.tap: PacketTap | None = None  # takes the packets, too
        self._was_read = False
        self._repeats = Repeats()
        self._form: str | None = None  # as FFmpeg finds out

    def check(self) -> None:
        """Refuse a file that is missing, is not a video or has no video stream, or cannot be decoded as wished.

        A live source may come later and a pipe can be read only once: they are not looked at.
        """
        settings = self._settings
        check_address(settings)
        check_decoder(settings)
        if is_pipe(settings.source):
            if settings.loop:
                raise ConfigError(
                    f"stream {settings.name!r}: loop is true, but must be false for {redact(settings.source)!r}, "
                    "a pipe, which can be read only once"
                )
        elif is_pictures(settings.source):
            next(pictures_of(settings))
        elif not self.live:
            with opened(settings, self.live) as (_, stream):
                Decoder(stream, settings, self.live)

    def read(self, stop: threading.Event) -> Generator[Given, None, None]:
        """Its pictures: from the first to the last, or as they come."""
        if is_pictures(self._settings.source):
            yield from _read_pictures(self._settings, stop)
            return
        if self._was_read and not self.live and is_pipe(self._settings.source):
            raise SourceError("can be read only once")
        self._was_read = True
        try:
            yield from _read(self._settings, self.live, stop, self.tap, self._form, self._repeats)
        except _OddParts:
            self._form = "mjpeg"
            yield from _read(self._settings, self.live, stop, self.tap, self._form, self._repeats)

    def picture_bytes(self, largest: tuple[int, int]) -> int:
        """Of a file its own size, else of the largest."""
        if self.live or is_pipe(self._settings.source):
            return yuv_bytes(*largest)
        if is_pictures(self._settings.source):
            return max(_picture_bytes(each) for each in pictures_of(self._settings))
        return _picture_bytes(self._settings)


FileSource = UrlSource = VideoSource  # as the entry points name them


def _picture_bytes(settings: StreamSettings) -> int:
    with opened(settings, False) as (_, stream):
        width = displayed_width(stream.codec_context.width, pixel_aspect(stream.sample_aspect_ratio))
        return yuv_bytes(width, stream.codec_context.height)


def _read_pictures(settings: StreamSettings, stop: threading.Event) -> Generator[Given, None, None]:
    step_s = 1.0 / (settings.rate_hz or RATE_HZ)
    for index, picture in enumerate(pictures_of(settings)):
        try:
            shown = [given for given in _read(picture, False, stop) if isinstance(given, Decoded)]
        except SourceError:
            shown = []
        if stop.is_set():
            return
        if shown:
            yield replace(shown[0], source_s=index * step_s, step_s=step_s)
        else:
            yield Missed(1, "undecodable")


def _read(
    settings: StreamSettings,
    live: bool,
    stop: threading.Event,
    tap: PacketTap | None = None,
    form: str | None = None,
    repeats: Repeats | None = None,
) -> Generator[Given, None, None]:
    patience_s = PICTURE_PATIENCE * read_timeout_s(settings)
    with opened(settings, live, stop, partial(_close, live=live), form) as (container, stream):
        bursts = _bursts(container, live)
        decoder = Decoder(stream, settings, live or settings.pace == "camera")
        viewer = Viewer(stream, settings, bursts)
        if tap is not None:
            tap.opened(stream)
        repeats = repeats if bursts else None
        if repeats is not None:
            repeats.opened()
        failure: Incomplete | None = None
        heard_s, length = time.monotonic(), Length(container, stream)
        with closing(_packets(container, stream, settings, live, bursts)) as packets:
            try:
                for packet in packets:
                    if stop.is_set():
                        return
                    length.reached(packet)
                    if tap is not None:
                        tap.took(packet)
                    if repeats is not None:
                        repeats.took(packet)
                    for given in _fresh(viewer.shown(decoder.decode(packet)), repeats):
                        yield given
                        if isinstance(given, Decoded):
                            heard_s = time.monotonic()  # after the yield: a slow reader is not the source's fault
                    if live and time.monotonic() - heard_s > patience_s:
                        raise SourceError(f"data arrives, but for {patience_s:g} s no picture could be decoded from it")
            except Incomplete as error:
                failure = error
            yield from _fresh(viewer.shown(decoder.flush()), repeats)  # also where the file cannot be read on
            yield from _fresh(viewer.rest(), repeats)
        if failure is None and not live and (missing := _missing(settings, length)) is not None:
            failure = Incomplete(missing)
    if failure is not None:
        raise failure


def _fresh(given: Iterable[Decoded | Missed], repeats: Repeats | None) -> Iterator[Decoded | Missed]:
    """Leave out what was shown before a live playlist was opened again."""
    for each in given:
        if repeats is None or not (isinstance(each, Decoded) and repeats.shown_before(each.source_s)):
            yield each


def _missing(settings: StreamSettings, length: "Length") -> str | None:
    """What a file lacks that was read to its end."""
    path = local_path(settings.source)
    if path is None:
        return None if is_pipe(settings.source) else length.missing
    return cut_short(path) or length.missing


class Length:
    """How much has come of the duration that a file states.

    Of a playlist it is the sum of its packets: the times of segments that are lost do not tell, since others follow.
    """

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._in_segments = container.format.name in PLAYLISTS
        alone = self._in_segments or len(container.streams) == 1  # other streams may last longer
        self._stated_s = _own_duration_s(stream)
        if self._stated_s is None and alone and container.duration is not None:
            self._stated_s = container.duration / av.time_base
        self._came = 0
        self._first_s: float | None = None
        self._last_s = self._sum_s = 0.0

    def reached(self, packet: "av.Packet[VideoStream]") -> None:
        """A packet came."""
        self._came += 1
        if packet.pts is not None and packet.time_base is not None:
            begin_s, step_s = float(packet.pts * packet.time_base), float((packet.duration or 0) * packet.time_base)
            self._first_s = begin_s if self._first_s is None else min(begin_s, self._first_s)
            self._last_s = max(self._last_s, begin_s + step_s)
            self._sum_s += step_s

    @property
    def missing(self) -> str | None:
        """What is missing; None where nothing is, or it is not known."""
        stated_s = self._stated_s
        if stated_s is None or self._first_s is None or (self._in_segments and not self._sum_s):
            return None
        came_s = self._sum_s if self._in_segments else self._last_s - self._first_s
        exact = self._in_segments and not stated_s.is_integer()  # older playlists round the length of each segment
        slack_s = max(MISSING_S, (MISSING_OF_EXACT if exact else MISSING) * stated_s)
        if came_s >= stated_s - slack_s - MISSING_STEPS * came_s / max(1, self._came):
            return None
        return f"is not whole: {came_s:.1f} of {stated_s:.1f} s came"


def _own_duration_s(stream: VideoStream) -> float | None:
    """What a container says of one stream; Matroska does so in a tag."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    match = DURATION_TAG.fullmatch(stream.metadata.get("DURATION", ""))
    return None if match is None else 3600 * int(match[1]) + 60 * int(match[2]) + float(match[3])


def _bursts(container: InputContainer, live: bool) -> bool:
    """Whether it is read ahead, by a thread that closes it in the end: segments of a playlist come all at once."""
    return live and container.format.name in PLAYLISTS


def _close(container: InputContainer, live: bool) -> None:
    if not _bursts(container, live):
        container.close()


def _packets(
    container: InputContainer, stream: VideoStream, settings: StreamSettings, live: bool, bursts: bool
) -> "Generator[av.Packet[VideoStream], None, None]":
    packets = _demuxed(container, stream, settings, live)
    if not bursts:
        yield from packets
        return
    with closing(ReadAhead(_marked(packets), container.close)) as ahead:
        yield from ahead


def _marked(packets: "Iterator[av.Packet[VideoStream]]") -> "Iterator[av.Packet[VideoStream]]":
    """Mark when each came."""
    for packet in packets:
        packet.opaque = PacketMark(came_s=time.monotonic())
        yield packet


def _demuxed(
    container: InputContainer, stream: VideoStream, settings: StreamSettings, live: bool
) -> "Iterator[av.Packet[VideoStream]]":
    silence_s = read_timeout_s(settings)
    silent = f"no data for {silence_s:g} s"
    asked_s, late = time.monotonic(), False
    try:
        for packet in container.demux(stream):
            late = late or time.monotonic() - asked_s >= silence_s
            if live and late:  # when a read has timed out, FFmpeg first gives what its parsers held, as old as that
                raise SourceError(silent)
            yield packet
            asked_s = time.monotonic()
    except av.ExitError:  # which some demuxers make of an end, too
        late = late or time.monotonic() - asked_s >= silence_s
        cause = silent if late else "the source ended" if live else "the data ended in the middle"
    except av.FFmpegError as error:
        if container.format.name == "mpjpeg" and isinstance(error, av.InvalidDataError):
            raise _OddParts from None
        cause = f"reading failed: {error.strerror}"
    else:
        return
    raise SourceError(cause) if live else Incomplete(f"is not whole: {cause}")
