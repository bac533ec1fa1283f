"""Files and addresses, through PyAV (FFmpeg)."""

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
from pipeline.sources.length import Length
from pipeline.sources.opening import PLAYLISTS, check_decoder, opened, read_timeout_s
from pipeline.sources.packets import PacketTap
from pipeline.sources.pictures import RATE_HZ, pictures_of
from pipeline.sources.repeats import Repeats
from pipeline.sources.viewer import Viewer

# Cameras may send a key frame only every few seconds, and nothing can be decoded before the first.
PICTURE_PATIENCE: Final = 4  # times the timeout, while data arrives but no picture comes of it
INDEXED: Final = "mp4"  # FFmpeg's name of a format whose index may stand at its end
NO_RANGES: Final = "a server without ranges gives an MP4 only if its index comes first: write it with faststart"


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
            with opened(settings, self.live) as (_, stream, _):
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
    with opened(settings, False) as (_, stream, _):
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
    with opened(settings, live, stop, partial(_close, live=live), form) as (container, stream, missing):
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
        if failure is None and not live and (cause := missing() or length.missing) is not None:
            failure = Incomplete(cause)
    if failure is not None:
        raise failure


def _fresh(given: Iterable[Decoded | Missed], repeats: Repeats | None) -> Iterator[Decoded | Missed]:
    """Leave out what was shown before a live playlist was opened again."""
    for each in given:
        if repeats is None or not (isinstance(each, Decoded) and repeats.shown_before(each.source_s)):
            yield each


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
    asked_s, late, came = time.monotonic(), False, False
    try:
        for packet in container.demux(stream):
            late = late or time.monotonic() - asked_s >= silence_s
            if live and late:  # when a read has timed out, FFmpeg first gives what its parsers held, as old as that
                raise SourceError(silent)
            yield packet
            asked_s, came = time.monotonic(), True
    except av.ExitError:  # which some demuxers make of an end, too
        late = late or time.monotonic() - asked_s >= silence_s
        cause = silent if late else "the source ended" if live else "the data ended in the middle"
    except IndexError:  # PyAV's, where the next file of a list (ffconcat) has more in it than the first
        cause = "it goes on with streams that were not there before"
    except av.FFmpegError as error:
        if container.format.name == "mpjpeg" and isinstance(error, av.InvalidDataError):
            raise _OddParts from None
        cause = f"reading failed: {error.strerror}"
    else:
        return
    if not (came or local_path(settings.source)) and INDEXED in container.format.name.split(","):
        cause = f"{cause}; {NO_RANGES}"
    raise SourceError(cause) if live else Incomplete(f"is not whole: {cause}")
