"""The clip that is measured on when none is given, what is known of a clip, and how it becomes long enough."""

from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import cv2
import msgspec
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from engines.arrays import Pixels
from engines.errors import ConfigError, SourceError
from pipeline.settings.redact import redact
from pipeline.settings.schema import StreamSettings
from pipeline.sources.capture import check_source
from pipeline.sources.kind import is_live

STREAM: Final = "clip"  # its name in a run
SIZES: Final = {"720p": (1280, 720), "1080p": (1920, 1080)}  # width, height
RATE: Final = 25  # frames/s
SECONDS: Final = 10
SEED: Final = 7
BITS_PER_PIXEL: Final = 0.13  # 3 Mbit/s at 1280x720, as cameras are set
ENCODER_THREADS: Final = 4  # fixed: what x264 writes depends on it
GRAIN: Final = 3.0  # standard deviation of the sensor noise, grey levels
GRAINS: Final = 5  # noise pictures, used in turn
ROAM: Final = 128  # pixels by which the background is larger than the picture: the view wanders over it
RECTANGLES: Final = 6
MIN_FRAMES: Final = 1500  # of a file that is played: to open it again takes as long as many frames do


class BenchmarkClip(msgspec.Struct, frozen=True):
    """The video that was measured on."""

    source: str | None  # None: made for this measurement, always the same at its size
    width: int
    height: int
    codec: str
    frames_per_s: float | None  # None: the file does not say
    seconds: float | None
    bits_per_s: int | None


class Scenery:
    """Draws the frames: textured rectangles that cross each other over a wandering background, with sensor noise."""

    def __init__(self, size: tuple[int, int]) -> None:
        random = np.random.default_rng(SEED)
        width, height = self._size = size
        self._ground = _texture(random, (width + ROAM, height + ROAM), contrast=30)
        sides = random.uniform(0.1, 0.35, (RECTANGLES, 2)) * height
        self._rectangles = [_texture(random, (int(w), int(h)), contrast=60) for w, h in sides]
        self._speeds = random.uniform(0.3, 1.2, (RECTANGLES, 2))  # radians/s
        self._phases = random.uniform(0, 2 * np.pi, (RECTANGLES, 2))
        self._grains = random.normal(0, GRAIN, (GRAINS, height, width, 3)).astype(np.int16)

    def frame(self, number: int) -> Pixels:
        """Return RGB pixels (H, W, 3) of the frame with this number, counted from 0."""
        time_s = number / RATE
        width, height = self._size
        x, y = (ROAM / 2 * (1 + np.sin((0.7 * time_s, 0.45 * time_s + 1)))).astype(int)
        picture = self._ground[y : y + height, x : x + width].copy()
        for pixels, speed, phase in zip(self._rectangles, self._speeds, self._phases, strict=True):
            room = np.array(self._size) - pixels.shape[1::-1]
            x, y = (room / 2 * (1 + np.sin(speed * time_s + phase))).astype(int)
            picture[y : y + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        return np.asarray(cv2.add(picture, self._grains[number % GRAINS], dtype=cv2.CV_8U), np.uint8)


def _texture(random: np.random.Generator, size: tuple[int, int], contrast: float) -> Pixels:
    """Return coloured noise (H, W, 3) with as much contrast in large shapes as in small ones, down to 4 pixels."""
    width, height = size
    octaves = np.zeros((height, width, 3))
    for cell in (128, 32, 8, 4):
        noise = random.normal(0, 1, (max(height // cell, 2), max(width // cell, 2), 3))
        octaves += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC)
    shade = random.uniform(80, 176, 3)
    return np.asarray(np.clip(shade + contrast / 2 * octaves, 0, 255), np.uint8)


def render(path: Path, size: tuple[int, int], seconds: float = SECONDS) -> None:
    """Write the clip: H.264 in MP4 at the bitrate of a camera, without B-frames; every time the same."""
    scenery = Scenery(size)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "veryfast", "bf": "0", "g": "50"})
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = round(BITS_PER_PIXEL * size[0] * size[1] * RATE)
        stream.codec_context.thread_count = ENCODER_THREADS
        for number in range(round(seconds * RATE)):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scenery.frame(number), format="rgb24")))
        container.mux(stream.encode(None))


def check_file(source: str) -> None:
    """Refuse what cannot be measured on.

    Raises:
        ConfigError: the source is live: it gives frames at its own pace.
        SourceError: the file is missing, is not a video or has no video stream.
    """
    settings = StreamSettings(name=STREAM, source=source)
    if is_live(settings):
        raise ConfigError(f"--source is {redact(source)!r}, but must be a file, which can be read as fast as it goes")
    check_source(settings)


def describe(path: str, *, made: bool) -> BenchmarkClip:
    """Return what a file that :func:`check_file` let pass says of itself."""
    with av.open(f"file:{path}", metadata_errors="replace") as container:
        stream = container.streams.video[0]
        codec = stream.codec_context
        return BenchmarkClip(
            source=None if made else path,
            width=codec.width,
            height=codec.height,
            codec=codec.name,
            frames_per_s=round(float(stream.average_rate), 3) if stream.average_rate else None,
            seconds=round(container.duration / av.time_base, 3) if container.duration else None,
            bits_per_s=container.bit_rate or None,
        )


def lengthen(source: str, target: Path, rate: float | None = None) -> str:
    """Copy a file's video, not decoded, over and over until it has at least ``MIN_FRAMES`` pictures.

    Args:
        source: a file that :func:`check_file` let pass.
        target: where the copy goes: a Matroska file, which holds any codec.
        rate: pictures a second that the copy says it has; None: as many as the source.

    Returns:
        What to play: ``target``, or the source itself where it has no times and its own rate will do.

    Raises:
        ConfigError: another rate is wanted, and the source does not say what its own is.
        SourceError: FFmpeg cannot copy it.
    """
    with av.open(f"file:{source}", metadata_errors="replace") as container:
        stream = container.streams.video[0]
        own_rate = stream.average_rate or stream.guessed_rate
        if next(container.demux(stream)).dts is None or not own_rate:
            if rate is None:
                return source
            raise ConfigError(f"--source is {source!r}, which has no times: it cannot be played at {rate:g} frames/s")
        try:
            _copy(container, stream, target, Fraction(own_rate), Fraction(rate) if rate else Fraction(own_rate))
        except av.FFmpegError as error:
            reason = f"cannot be played over and over: {error.strerror}"
            raise SourceError(f"--source is {source!r}, which {reason}") from None
    return str(target)


def _copy(container: InputContainer, stream: VideoStream, target: Path, own_rate: Fraction, rate: Fraction) -> None:
    """Write passes over the video one after the other, with as many pictures a second as ``rate``."""
    with av.open(str(target), "w", format="matroska") as copy:
        out = copy.add_stream_from_template(stream)
        written, begins, before = 0, 0, -1
        while before < written < MIN_FRAMES:  # a pass without a picture is the last
            container.seek(0)
            before, ends = written, begins
            for packet in container.demux(stream):
                if packet.dts is None or packet.pts is None or packet.time_base is None:
                    continue
                ends = max(ends, begins + packet.pts + round(1 / own_rate / packet.time_base))
                packet.dts, packet.pts = packet.dts + begins, packet.pts + begins
                packet.time_base *= own_rate / rate
                packet.stream = out
                copy.mux(packet)
                written += 1
            begins = ends
